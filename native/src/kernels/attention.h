// Attention of one new token a row over the pages of its sequence, with rotation and append in the same pass. The layout of the cache is
// described at `Cache` in kernels.h.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

#if defined(__AVX512BF16__)
/** Queries that share a load of keys, and of values: as many as there are registers for. */
constexpr int kQueries = 12, kValueQueries = 6;
#else
constexpr int kQueries = 4, kValueQueries = 4;
#endif
/** Tokens of a prompt, beside each other, that are queries together; a chunk is a multiple. */
constexpr int64_t kPromptRows = 8;

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

/**
 * Tokens [from, to) of one key head, of which those from `first` on are seen. Queries are the heads that share it of one token after
 * another, the first at `position`; each sees the tokens up to its own. `following` are the keys that come next, or null.
 */
template <typename T>
struct Chunk {
  int64_t from, to, first, position;
  int64_t kvHead;
  const int32_t* pages;
  const T* following;
};

/** Turns scores into weights e^(score - largest), rounded to T; returns largest score and sum of the weights before rounding. */
template <typename T>
static inline void softmax(const AttentionArgs& args, const Chunk<T>& chunk, int64_t query, float* scores, T* weights, float* state) {
  const int64_t group = args.heads / args.cache.kvHeads, position = chunk.position + query / group;
  const float slope = args.slopes ? args.slopes[chunk.kvHead * group + query % group] : 0.0f;
  const int64_t end = position < chunk.to ? position + 1 : chunk.to, padded = (end - chunk.from + 15) / 16 * 16;
  const Vec factor = set(args.scale);
  Vec most = set(-INFINITY);
  for (int64_t t = 0; t < padded; t += 16) {
    Vec s = load(scores + t) * factor;
    if (args.softcap > 0) s = set(args.softcap) * tanh(s / set(args.softcap));
    if (slope != 0) {
      float distance[16];
      for (int i = 0; i < 16; i++) distance[i] = static_cast<float>(chunk.from + t + i - position);
      s = fma(load(distance), set(slope), s);
    }
    const int64_t seenFrom = chunk.first - chunk.from - t, seenTo = end - chunk.from - t;
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
  for (int64_t t = padded; t < chunk.to - chunk.from; t += 16) store(weights + t, zero()); // for later tokens of a prompt
  state[0] = largestScore;
  state[1] = sum(total);
}

/** pageValues for as many queries at a time as there are registers for. */
template <typename T, int count, int vectors>
static inline void pageSums(const T* weights, const T* values, int64_t tokens, int64_t dim, float* sums, int64_t stride,
                            Upcoming& upcoming) {
  constexpr int part = count < kValueQueries ? count : kValueQueries;
  pageValues<T, part, vectors>(weights, values, tokens, dim, sums, stride, upcoming);
  if constexpr (count > part)
    pageSums<T, count - part, vectors>(weights + part * kChunkTokens, values, tokens, dim, sums + part * stride, stride, upcoming);
}

/** Attention of queries [query, query + count) to a chunk: sums [count, paddedDim + 2], the last two the state of `softmax`. */
template <typename T, int count>
static void attendChunk(const AttentionArgs& args, const Chunk<T>& chunk, int64_t query, const T* queries, float* sums) {
  const int64_t dim = args.cache.paddedDim, stride = dim + 2, kvHead = chunk.kvHead;
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
    softmax(args, chunk, query + q, scores + q * kChunkTokens, weights + q * kChunkTokens, sums + q * stride + dim);
    for (int64_t d = 0; d < dim; d += 16) store(sums + q * stride + d, zero());
  }
  constexpr int64_t P = Lanes<T>::pair;
  eachPage([&](int64_t page, int64_t t) {
    const T* values = pageOf<T>(args.cache.values, args.cache, page, kvHead);
    const int64_t left = chunk.to - chunk.from - t, tokens = left < kPageTokens ? (left + P - 1) / P * P : kPageTokens;
    const T* next = pageAfter(args.cache.values, t);
    Upcoming upcoming = upcomingPage(next ? next : chunk.following, dim);
    int64_t d = 0;
    for (; d + 64 <= dim; d += 64) pageSums<T, count, 4>(weights + t, values + d * P, tokens, dim, sums + d, stride, upcoming);
    for (; d < dim; d += 16) pageSums<T, count, 1>(weights + t, values + d * P, tokens, dim, sums + d, stride, upcoming);
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

/** `attendChunk` for any number of queries [count, paddedDim]; a chunk of which a window hides everything leaves no weight. */
template <typename T>
static void attendQueries(const AttentionArgs& args, const Chunk<T>& chunk, const T* queries, int64_t count, float* sums) {
  const int64_t padded = args.cache.paddedDim, stride = padded + 2;
  if (chunk.from >= chunk.to || chunk.to <= chunk.first) {
    for (int64_t q = 0; q < count; q++) {
      memset(sums + q * stride, 0, stride * sizeof(float));
      sums[q * stride + padded] = -INFINITY;
    }
    return;
  }
  int64_t q = 0;
  const auto attend = [&]<int part>() {
    attendChunk<T, part>(args, chunk, q, queries + q * padded, sums + q * stride);
    q += part;
  };
  while (count - q >= kQueries) attend.template operator()<kQueries>();
  if (kQueries > 8 && count - q >= 8) attend.template operator()<8>();
  if (kQueries > 4 && count - q >= 4) attend.template operator()<4>();
  if (count - q == 3) attend.template operator()<3>();
  if (count - q == 2) attend.template operator()<2>();
  if (count - q == 1) attend.template operator()<1>();
}

/** The queries of one token that share a key head, rotated: [heads / kvHeads, paddedDim], zeros behind each. */
template <typename T>
static void loadQueries(const AttentionArgs& args, int64_t row, int64_t kvHead, T* queries) {
  const int64_t dim = args.cache.headDim, padded = args.cache.paddedDim, group = args.heads / args.cache.kvHeads;
  const T* heads = static_cast<const T*>(args.projected) + (row * (args.heads + 2 * args.cache.kvHeads) + kvHead * group) * dim;
  memset(queries, 0, group * padded * sizeof(T));
  for (int64_t q = 0; q < group; q++) rotateHead(heads + q * dim, queries + q * padded, dim, args.rotary, args.positions[row]);
}

/** The first token that a window leaves to the query at `position`. */
static inline int64_t firstSeen(const AttentionArgs& args, int64_t position) {
  return args.window > 0 && position >= args.window ? position + 1 - args.window : 0;
}

/** Chunk `index` of one row and key head in decoding; the row's own key and value are appended with its last chunk. */
template <typename T>
static void attendTask(const AttentionArgs& args, int64_t row, int64_t kvHead, int64_t index, float* partial) {
  const Cache& cache = args.cache;
  const int64_t dim = cache.headDim, padded = cache.paddedDim, group = args.heads / cache.kvHeads;
  const int64_t position = args.positions[row], length = position + 1;
  const int64_t from = index * kChunkTokens, to = from + kChunkTokens < length ? from + kChunkTokens : length;
  const int32_t* pages = args.pages + row * args.maxPages;
  if (from < length && to == length) {
    const T* projected = static_cast<const T*>(args.projected) + row * (args.heads + 2 * cache.kvHeads) * dim;
    T* key = static_cast<T*>(scratch(0, dim * sizeof(T)));
    rotateHead(projected + (args.heads + kvHead) * dim, key, dim, args.rotary, position);
    const int64_t place = pages[position / kPageTokens] * kPageTokens + position % kPageTokens;
    appendHead(cache, kvHead, place, key, projected + (args.heads + cache.kvHeads + kvHead) * dim, true);
  }
  T* queries = static_cast<T*>(scratch(1, group * padded * sizeof(T)));
  loadQueries(args, row, kvHead, queries);
  // The next key head lies behind this one in the same pages.
  const bool isMore = from < length && kvHead + 1 < cache.kvHeads;
  const T* following = isMore ? pageOf<T>(cache.keys, cache, pages[from / kPageTokens], kvHead + 1) : nullptr;
  attendQueries<T>(args, {from, to, firstSeen(args, position), position, kvHead, pages, following}, queries, group, partial);
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
    attendTask<T>(args, row, head, chunk, partial);
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

/** Whether a token of a prompt is among the queries that the one before it begins or belongs to. */
static inline bool isJoined(const AttentionArgs& args, int64_t row) {
  return row > 0 && args.window == 0 && args.positions[row] % kPromptRows != 0 && args.positions[row] == args.positions[row - 1] + 1 &&
         args.sequences[row] == args.sequences[row - 1];
}

template <typename T>
static void attendPrompt(const AttentionArgs& args, int64_t from, int64_t to) {
  const Cache& cache = args.cache;
  const int64_t kvHeads = cache.kvHeads, group = args.heads / kvHeads, padded = cache.paddedDim, stride = padded + 2;
  for (int64_t task = from; task < to; task++) {
    // From both ends by turns: late tokens see more, and every thread should get as many of them.
    const int64_t turn = task / kvHeads, row = turn % 2 == 0 ? turn / 2 : args.rows - 1 - turn / 2, head = task % kvHeads;
    if (isJoined(args, row)) continue;
    int64_t rows = 1;
    while (row + rows < args.rows && isJoined(args, row + rows)) rows++;
    const int64_t position = args.positions[row], chunks = position / kChunkTokens + 1, count = rows * group, next = count * stride;
    T* queries = static_cast<T*>(scratch(1, count * padded * sizeof(T)));
    for (int64_t r = 0; r < rows; r++) loadQueries(args, row + r, head, queries + r * group * padded);
    float* partial = static_cast<float*>(scratch(3, chunks * next * sizeof(float)));
    const int32_t* pages = args.pages + args.sequences[row] * args.maxPages;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const int64_t start = chunk * kChunkTokens, all = position + rows, end = start + kChunkTokens < all ? start + kChunkTokens : all;
      const Chunk<T> part = {start, end, firstSeen(args, position), position, head, pages, nullptr};
      attendQueries(args, part, queries, count, partial + chunk * next);
    }
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t q = 0; q < group; q++) {
        const int64_t at = (row + r) * args.heads + head * group + q;
        T* y = static_cast<T*>(args.y) + at * cache.headDim;
        const float logSum = combineHead(cache, partial + (r * group + q) * stride, chunks, next, y);
        if (args.logSums) args.logSums[at] = logSum;
      }
    }
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
