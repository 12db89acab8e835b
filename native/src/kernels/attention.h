// Attention of one new token a row over the pages of its sequence, with rotation and append in the same pass. The layout of the cache is
// described at `Cache` in kernels.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

/** Query heads that share a load of a key or value. */
constexpr int kQueries = 4;

template <typename T>
static inline T* pageOf(void* pool, const Cache& cache, int64_t page, int64_t head) {
  return static_cast<T*>(pool) + (page * cache.kvHeads + head) * kPageTokens * cache.paddedDim;
}

/** y = one head's x at `position`, rounded where the training forward rounds: after x cos and after the sum. */
template <typename T>
static void rotateHead(const T* x, T* y, int64_t headDim, const Rotary& rotary, int64_t position) {
  const int64_t dims = rotary.cos ? rotary.dims : 0, half = dims / 2;
  const T *cos = static_cast<const T*>(rotary.cos) + position * dims, *sin = static_cast<const T*>(rotary.signedSin) + position * dims;
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) { // both partners are read before either is written: y may be x
    const Vec low = load(x + i), high = load(x + half + i);
    store(y + i, fma(high, load(sin + i), rounded<T>(low * load(cos + i))));
    store(y + half + i, fma(low, load(sin + half + i), rounded<T>(high * load(cos + half + i))));
  }
  for (; i < half; i++) {
    const float low = toFloat(x[i]), high = toFloat(x[half + i]);
    T first, second;
    assign(first, low * toFloat(cos[i]));
    assign(second, high * toFloat(cos[half + i]));
    assign(y[i], toFloat(first) + high * toFloat(sin[i]));
    assign(y[half + i], toFloat(second) + low * toFloat(sin[half + i]));
  }
  if (y != x) memcpy(y + dims, x + dims, (headDim - dims) * sizeof(T));
}

/** One token's key and value into its page. `isLast`: no later token of the page is there yet. */
template <typename T>
static void appendHead(const Cache& cache, int64_t head, int64_t place, const T* key, const T* value, bool isLast) {
  constexpr int64_t P = Lanes<T>::pair;
  const int64_t page = place / kPageTokens, t = place % kPageTokens, dim = cache.paddedDim;
  T* keys = pageOf<T>(cache.keys, cache, page, head) + t / 16 * 16 * dim + t % 16 * P;
  T* values = pageOf<T>(cache.values, cache, page, head) + t / P * P * dim + t % P;
  for (int64_t d = 0; d < cache.headDim; d++) keys[d / P * 16 * P + d % P] = key[d];
  for (int64_t d = 0; d < cache.headDim; d++) values[d * P] = value[d];
  // What another sequence left as the partner of a last, even token is multiplied by 0; it must not be infinite.
  if (P == 2 && t % 2 == 0 && isLast)
    for (int64_t d = 0; d < cache.headDim; d++) assign(values[d * P + 1], 0.0f);
}

template <typename T>
static void append(const AppendArgs& args, int64_t from, int64_t to) {
  const Cache& cache = args.cache;
  const int64_t dim = cache.headDim, kvHeads = cache.kvHeads, heads = args.heads;
  for (int64_t i = from; i < to; i++) {
    T* row = static_cast<T*>(args.projected) + i * (heads + 2 * kvHeads) * dim;
    for (int64_t h = 0; h < heads + kvHeads; h++) rotateHead(row + h * dim, row + h * dim, dim, args.rotary, args.positions[i]);
    const bool isLast = i + 1 == args.tokens || args.places[i + 1] != args.places[i] + 1;
    for (int64_t h = 0; h < kvHeads; h++)
      appendHead(cache, h, args.places[i], row + (heads + h) * dim, row + (heads + kvHeads + h) * dim, isLast);
  }
}

/** A page's keys or values of one head, to be brought; null brings nothing. */
template <typename T>
static inline Upcoming upcomingPage(const T* page, int64_t dim) {
  const char* next = reinterpret_cast<const char*>(page);
  return {next, page ? next + kPageTokens * dim * sizeof(T) : next};
}

/** scores[q][32] = queries [count, dim] . the keys of a page; meanwhile what comes next is fetched, a page in equal parts. */
template <typename T, int count>
static inline void pageScores(const T* queries, const T* keys, int64_t dim, float* scores, Upcoming upcoming) {
  using L = Lanes<T>;
  const int64_t steps = dim / L::pair, block = 16 * dim;
  Vec total[2][count];
  for (int q = 0; q < count; q++) total[0][q] = total[1][q] = zero();
  for (int64_t d = 0; d < steps; d++) {
    upcoming.bring();
    upcoming.bring();
    const typename L::Raw low = L::load(keys + d * L::step), high = L::load(keys + block + d * L::step);
    for (int q = 0; q < count; q++) {
      const typename L::Raw query = L::repeat(queries + q * dim + d * L::pair);
      total[0][q] = L::multiply(low, query, total[0][q]);
      total[1][q] = L::multiply(high, query, total[1][q]);
    }
  }
  for (int q = 0; q < count; q++) {
    store(scores + q * kChunkTokens, total[0][q]);
    store(scores + q * kChunkTokens + 16, total[1][q]);
  }
}

/** sums[q][dim] += weights[q] . the first `tokens` values of a page, a multiple of the pair. */
template <typename T, int count, int vectors>
static inline void pageValues(const T* weights, const T* values, int64_t tokens, int64_t dim, float* sums, int64_t sumStride,
                              Upcoming& upcoming) {
  using L = Lanes<T>;
  Vec total[count][vectors];
  for (int q = 0; q < count; q++)
    for (int i = 0; i < vectors; i++) total[q][i] = load(sums + q * sumStride + 16 * i);
  for (int64_t t = 0; t < tokens; t += L::pair) {
    for (int i = 0; i < vectors; i++) upcoming.bring();
    typename L::Raw value[vectors];
    for (int i = 0; i < vectors; i++) value[i] = L::load(values + t * dim + i * L::step);
    for (int q = 0; q < count; q++) {
      const typename L::Raw weight = L::repeat(weights + q * kChunkTokens + t);
      for (int i = 0; i < vectors; i++) total[q][i] = L::multiply(value[i], weight, total[q][i]);
    }
  }
  for (int q = 0; q < count; q++)
    for (int i = 0; i < vectors; i++) store(sums + q * sumStride + 16 * i, total[q][i]);
}

/** Tokens [from, to) of one row and key head, of which those from `first` on are seen; `following` are the keys that come next, or null. */
template <typename T>
struct Chunk {
  int64_t from, to, first, position;
  const int32_t* pages;
  const T* following;
};

/** Turns scores into weights e^(score - largest), rounded to T; returns largest score and sum of the weights before rounding. */
template <typename T>
static inline void softmax(const AttentionArgs& args, const Chunk<T>& chunk, float slope, float* scores, T* weights, float* state) {
  const int64_t padded = (chunk.to - chunk.from + 15) / 16 * 16;
  const Vec factor = set(args.scale);
  Vec most = set(-INFINITY);
  for (int64_t t = 0; t < padded; t += 16) {
    Vec s = load(scores + t) * factor;
    if (args.softcap > 0) s = set(args.softcap) * tanh(s / set(args.softcap));
    if (slope != 0) {
      float distance[16];
      for (int i = 0; i < 16; i++) distance[i] = static_cast<float>(chunk.from + t + i - chunk.position);
      s = fma(load(distance), set(slope), s);
    }
    const int64_t seenFrom = chunk.first - chunk.from - t, seenTo = chunk.to - chunk.from - t;
    if (seenTo < 16) s = tschat::TSCHAT_ISA::first(static_cast<int>(seenTo), s, set(-INFINITY));
    if (seenFrom > 0) s = tschat::TSCHAT_ISA::first(static_cast<int>(seenFrom < 16 ? seenFrom : 16), set(-INFINITY), s);
    store(scores + t, s);
    most = max(most, s);
  }
  const float largestScore = largest(most);
  Vec total = zero();
  for (int64_t t = 0; t < padded; t += 16) {
    const Vec weight = exp(load(scores + t) - set(largestScore));
    total = total + weight;
    store(weights + t, weight);
  }
  state[0] = largestScore;
  state[1] = sum(total);
}

/** Attention of `count` query heads to a chunk: sums [count, paddedDim + 2], the last two the state of `softmax`. */
template <typename T, int count>
static void attendChunk(const AttentionArgs& args, const Chunk<T>& chunk, int64_t kvHead, const T* queries, const float* slopes,
                        float* sums) {
  const int64_t dim = args.cache.paddedDim, stride = dim + 2;
  alignas(64) float scores[count * kChunkTokens];
  alignas(64) T weights[count * kChunkTokens];
  // Pages that a window hides altogether are not read; their scores are masked, so anything finite will do.
  const int64_t seen = chunk.first > chunk.from ? (chunk.first - chunk.from) / kPageTokens * kPageTokens : 0;
  const auto eachPage = [&](auto run) {
    for (int64_t t = chunk.from + seen; t < chunk.to; t += kPageTokens) run(chunk.pages[t / kPageTokens], t - chunk.from);
  };
  for (int q = 0; q < count; q++)
    for (int64_t t = 0; t < seen; t += 16) store(scores + q * kChunkTokens + t, zero());
  // The memory works ahead by a page: keys, then the first values.
  const auto pageAfter = [&](void* pool, int64_t t) {
    const int64_t after = chunk.from + t + kPageTokens;
    return after < chunk.to ? pageOf<T>(pool, args.cache, chunk.pages[after / kPageTokens], kvHead) : nullptr;
  };
  const T* firstValues = pageOf<T>(args.cache.values, args.cache, chunk.pages[(chunk.from + seen) / kPageTokens], kvHead);
  eachPage([&](int64_t page, int64_t t) {
    const T* next = pageAfter(args.cache.keys, t);
    pageScores<T, count>(queries, pageOf<T>(args.cache.keys, args.cache, page, kvHead), dim, scores + t,
                         upcomingPage(next ? next : firstValues, dim));
  });
  for (int q = 0; q < count; q++) {
    softmax(args, chunk, slopes ? slopes[q] : 0.0f, scores + q * kChunkTokens, weights + q * kChunkTokens, sums + q * stride + dim);
    for (int64_t d = 0; d < dim; d += 16) store(sums + q * stride + d, zero());
  }
  constexpr int64_t P = Lanes<T>::pair;
  eachPage([&](int64_t page, int64_t t) {
    const T* values = pageOf<T>(args.cache.values, args.cache, page, kvHead);
    const int64_t left = chunk.to - chunk.from - t, tokens = left < kPageTokens ? (left + P - 1) / P * P : kPageTokens;
    const T* next = pageAfter(args.cache.values, t);
    Upcoming upcoming = upcomingPage(next ? next : chunk.following, dim);
    int64_t d = 0;
    for (; d + 64 <= dim; d += 64) pageValues<T, count, 4>(weights + t, values + d * P, tokens, dim, sums + d, stride, upcoming);
    for (; d < dim; d += 16) pageValues<T, count, 1>(weights + t, values + d * P, tokens, dim, sums + d, stride, upcoming);
  });
}

/** y = sums / total, for the head's own size. */
template <typename T>
static inline void writeHead(const Cache& cache, const float* sums, float total, T* y) {
  const Vec factor = set(1.0f / total);
  int64_t d = 0;
  for (; d + 16 <= cache.headDim; d += 16) store(y + d, load(sums + d) * factor);
  if (d < cache.headDim) storeFirst(y + d, load(sums + d) * factor, cache.headDim - d);
}

/** Chunk `index` of one row and key head. */
template <typename T, bool appends>
static void attendTask(const AttentionArgs& args, int64_t row, int64_t kvHead, int64_t index, float* partial) {
  const Cache& cache = args.cache;
  const int64_t dim = cache.headDim, padded = cache.paddedDim, group = args.heads / cache.kvHeads, stride = padded + 2;
  const int64_t position = args.positions[row], length = position + 1;
  const int64_t first = args.window > 0 && length > args.window ? length - args.window : 0;
  const int64_t from = index * kChunkTokens, to = from + kChunkTokens < length ? from + kChunkTokens : length;
  const T* projected = static_cast<const T*>(args.projected) + row * (args.heads + 2 * cache.kvHeads) * dim;
  const int32_t* pages = args.pages + (args.sequences ? args.sequences[row] : row) * args.maxPages;
  if (appends && from < length && to == length) {
    T* key = static_cast<T*>(scratch(0, dim * sizeof(T)));
    rotateHead(projected + (args.heads + kvHead) * dim, key, dim, args.rotary, position);
    const int64_t place = pages[position / kPageTokens] * kPageTokens + position % kPageTokens;
    appendHead(cache, kvHead, place, key, projected + (args.heads + cache.kvHeads + kvHead) * dim, true);
  }
  if (from >= length || to <= first) { // nothing to see
    for (int64_t q = 0; q < group; q++) {
      memset(partial + q * stride, 0, stride * sizeof(float));
      partial[q * stride + padded] = -INFINITY;
    }
    return;
  }
  T* queries = static_cast<T*>(scratch(1, group * padded * sizeof(T)));
  memset(queries, 0, group * padded * sizeof(T));
  for (int64_t q = 0; q < group; q++)
    rotateHead(projected + (kvHead * group + q) * dim, queries + q * padded, dim, args.rotary, position);
  // In decoding the next key head lies behind this one in the same pages; in a prompt the pages stay in the cache.
  const bool isMore = appends && kvHead + 1 < cache.kvHeads;
  const T* following = isMore ? pageOf<T>(cache.keys, cache, pages[from / kPageTokens], kvHead + 1) : nullptr;
  const Chunk<T> chunk = {from, to, first, position, pages, following};
  for (int64_t q = 0; q < group; q += kQueries) {
    const T* part = queries + q * padded;
    const float* slopes = args.slopes ? args.slopes + kvHead * group + q : nullptr;
    float* sums = partial + q * stride;
    switch (group - q < kQueries ? group - q : kQueries) {
      case 4: attendChunk<T, 4>(args, chunk, kvHead, part, slopes, sums); break;
      case 3: attendChunk<T, 3>(args, chunk, kvHead, part, slopes, sums); break;
      case 2: attendChunk<T, 2>(args, chunk, kvHead, part, slopes, sums); break;
      default: attendChunk<T, 1>(args, chunk, kvHead, part, slopes, sums);
    }
  }
}

/**
 * Joins the chunks of one query head: `sums` is chunk 0, which gathers the others, `next` floats apart. Returns the log of the sum of
 * e^score.
 */
template <typename T>
static inline float combineHead(const Cache& cache, float* sums, int64_t chunks, int64_t next, T* y) {
  const int64_t padded = cache.paddedDim;
  float most = -INFINITY;
  for (int64_t c = 0; c < chunks; c++) most = fmaxf(most, sums[c * next + padded]);
  float total = 0;
  for (int64_t c = 0; c < chunks; c++) {
    const float* part = sums + c * next;
    const Vec factor = exp(set(part[padded] - most));
    float factors[16];
    store(factors, factor);
    total += part[padded + 1] * factors[0];
    for (int64_t d = 0; d < padded; d += 16) {
      const Vec scaled = load(part + d) * factor;
      store(sums + d, c == 0 ? scaled : load(sums + d) + scaled);
    }
  }
  writeHead(cache, sums, total, y);
  return most + logf(total);
}

template <typename T>
static void attend(const AttentionArgs& args, int64_t from, int64_t to) {
  const int64_t kvHeads = args.cache.kvHeads, group = args.heads / kvHeads, stride = args.cache.paddedDim + 2;
  for (int64_t task = from; task < to; task++) {
    const int64_t chunk = task % args.chunks, head = task / args.chunks % kvHeads, row = task / args.chunks / kvHeads;
    float* partial = args.partial + task * group * stride;
    attendTask<T, true>(args, row, head, chunk, partial);
    if (args.chunks > 1) continue; // `combine` finishes
    T* y = static_cast<T*>(args.y) + (row * args.heads + head * group) * args.cache.headDim;
    for (int64_t q = 0; q < group; q++) combineHead(args.cache, partial + q * stride, 1, 0, y + q * args.cache.headDim);
  }
}

template <typename T>
static void combine(const AttentionArgs& args, int64_t from, int64_t to) {
  const int64_t group = args.heads / args.cache.kvHeads, stride = args.cache.paddedDim + 2;
  for (int64_t row = from; row < to; row++) {
    for (int64_t head = 0; head < args.heads; head++) {
      const int64_t task = (row * args.cache.kvHeads + head / group) * args.chunks;
      T* y = static_cast<T*>(args.y) + (row * args.heads + head) * args.cache.headDim;
      combineHead(args.cache, args.partial + (task * group + head % group) * stride, args.chunks, group * stride, y);
    }
  }
}

template <typename T>
static void attendPrompt(const AttentionArgs& args, int64_t from, int64_t to) {
  const int64_t kvHeads = args.cache.kvHeads, group = args.heads / kvHeads, stride = args.cache.paddedDim + 2;
  for (int64_t task = from; task < to; task++) {
    // From both ends by turns: late tokens see more, and every thread should get as many of them.
    const int64_t turn = task / kvHeads, row = turn % 2 == 0 ? turn / 2 : args.rows - 1 - turn / 2, head = task % kvHeads;
    const int64_t chunks = args.positions[row] / kChunkTokens + 1, next = group * stride;
    float* partial = static_cast<float*>(scratch(3, chunks * next * sizeof(float)));
    for (int64_t chunk = 0; chunk < chunks; chunk++) attendTask<T, false>(args, row, head, chunk, partial + chunk * next);
    T* y = static_cast<T*>(args.y) + (row * args.heads + head * group) * args.cache.headDim;
    for (int64_t q = 0; q < group; q++) {
      const float logSum = combineHead(args.cache, partial + q * stride, chunks, next, y + q * args.cache.headDim);
      if (args.logSums) args.logSums[row * args.heads + head * group + q] = logSum;
    }
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
