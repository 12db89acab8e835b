// The gradient of causal attention, one query head of one sequence at a time (arXiv:2205.14135, algorithm 4): scores are computed again,
// a block of kBlock queries against a block of kBlock keys. Inside a block queries are lanes, so that what belongs to a query (the log of
// its sum, its masks) is a vector; every product is the same small kernel.
#pragma once

#include "attention.h"
#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

/** Queries, and keys, of a block. */
constexpr int64_t kBlock = 64;

#if defined(__AVX512BF16__)
constexpr int kOuterRows = 6, kOuterVectors = 4; // with their operands, 29 of 32 registers
#else
constexpr int kOuterRows = 2, kOuterVectors = 1;
#endif

/** Pairs along the summed dimension: element (row, k) of the left side is at row * rowStride + k / P * pairStride + k % P. */
template <typename T>
struct Left {
  const T* data;
  int64_t rowStride, pairStride;
};

/** c[rows, 16 * vectors] (+)= left [rows, steps * P] times right [steps, width, P], from its first column. */
template <typename T, bool adds, int rows, int vectors>
static inline void outerTile(Left<T> left, const T* right, int64_t width, int64_t steps, float* c, int64_t cStride) {
  using L = Lanes<T>;
  Vec total[rows][vectors];
  for (int r = 0; r < rows; r++)
    for (int v = 0; v < vectors; v++) total[r][v] = adds ? load(c + r * cStride + 16 * v) : zero();
  for (int64_t k = 0; k < steps; k++) {
    typename L::Raw columns[vectors];
    for (int v = 0; v < vectors; v++) columns[v] = L::load(right + k * width * L::pair + v * L::step);
    for (int r = 0; r < rows; r++) {
      const typename L::Raw value = L::repeat(left.data + r * left.rowStride + k * left.pairStride);
      for (int v = 0; v < vectors; v++) total[r][v] = L::multiply(columns[v], value, total[r][v]);
    }
  }
  for (int r = 0; r < rows; r++)
    for (int v = 0; v < vectors; v++) store(c + r * cStride + 16 * v, total[r][v]);
}

/** c [rows, width] (+)= left times right [steps, width, P]; width is a multiple of 16. */
template <typename T, bool adds>
static void outer(Left<T> left, int64_t rows, const T* right, int64_t width, int64_t steps, float* c, int64_t cStride) {
  constexpr int64_t P = Lanes<T>::pair;
  const auto columns = [&]<int count>(int64_t row) {
    const Left<T> part = {left.data + row * left.rowStride, left.rowStride, left.pairStride};
    int64_t n = 0;
    for (; n + 16 * kOuterVectors <= width; n += 16 * kOuterVectors)
      outerTile<T, adds, count, kOuterVectors>(part, right + n * P, width, steps, c + row * cStride + n, cStride);
    for (; n < width; n += 16) outerTile<T, adds, count, 1>(part, right + n * P, width, steps, c + row * cStride + n, cStride);
  };
  int64_t row = 0;
  for (; row + kOuterRows <= rows; row += kOuterRows) columns.template operator()<kOuterRows>(row);
  for (; row + 2 <= rows; row += 2) columns.template operator()<2>(row);
  if (row < rows) columns.template operator()<1>(row);
}

/** The rows of one head: [tokens, dim] with `stride` elements from token to token. */
template <typename T>
struct HeadRows {
  const T* data;
  int64_t stride, tokens, dim;
  const T* at(int64_t token) const { return data + token * stride; }
};

/** to [count, P]: the elements k of P rows, `stride` apart, beside each other. */
static inline void interleave(const float* rows, int64_t, int64_t count, float* to) { memcpy(to, rows, count * sizeof(float)); }
static inline void interleave(const BF16* rows, int64_t stride, int64_t count, BF16* to) {
  for (int64_t k = 0; k < count; k++) {
    const uint32_t pair = rows[k].bits | static_cast<uint32_t>(rows[stride + k].bits) << 16;
    memcpy(to + 2 * k, &pair, 4);
  }
}

/** to [tokens, padded]: rows [from, from + tokens), with zeros behind the last token and behind the head. */
template <typename T>
static void copyRows(const HeadRows<T>& rows, int64_t from, int64_t tokens, int64_t padded, T* to) {
  memset(to, 0, tokens * padded * sizeof(T));
  for (int64_t t = 0; t < tokens && from + t < rows.tokens; t++) memcpy(to + t * padded, rows.at(from + t), rows.dim * sizeof(T));
}

/** [tokens, padded] -> [tokens / P, padded, P] */
template <typename T>
static void pairTokens(const T* rows, int64_t tokens, int64_t padded, T* to) {
  constexpr int64_t P = Lanes<T>::pair;
  for (int64_t t = 0; t < tokens; t += P) interleave(rows + t * padded, padded, padded, to + t * padded);
}

/** [kBlock, padded] -> [padded / P, kBlock, P] */
template <typename T>
static void pairElements(const T* rows, int64_t padded, T* to) {
  constexpr int64_t P = Lanes<T>::pair;
  for (int64_t d = 0; d < padded; d += P)
    for (int64_t t = 0; t < kBlock; t++) memcpy(to + (d * kBlock + t * P), rows + t * padded + d, P * sizeof(T));
}

/** This thread's memory for one head of one sequence. */
template <typename T>
struct BackwardBuffers {
  /** Of the block of queries: [kBlock, padded], then two as [padded / P, kBlock, P] and two as [kBlock / P, padded, P]. */
  T *rows, *queryElements, *dyElements, *queryTokens, *dyTokens;
  float* dQueries; // [kBlock, padded]
  /** Of the block of keys and queries, [kBlock keys, kBlock queries]; `slopesByQuery` is [kBlock / P, kBlock, P]. */
  float *scores, *dWeights;
  T *weights, *slopes, *slopesByQuery;
  /** Of the block's queries: the log of the sum of e^score, and dy . y. */
  float *logSums, *products;
  /** Of the whole sequence: [tokens, padded], and keys as [tokens / P, padded, P]. */
  T *keys, *values, *keyTokens;

  BackwardBuffers(int64_t padded, int64_t tokens) {
    const int64_t head = kBlock * padded, block = kBlock * kBlock, whole = tokens * padded;
    const int64_t floats = head + 2 * block + 2 * kBlock, others = 5 * head + 3 * block + 3 * whole;
    char* at = static_cast<char*>(scratch(3, floats * sizeof(float) + others * sizeof(T)));
    const auto take = [&]<typename E>(E*& part, int64_t count) {
      part = reinterpret_cast<E*>(at);
      at += count * sizeof(E); // counts are multiples of 64: all parts are aligned
    };
    take(dQueries, head), take(scores, block), take(dWeights, block), take(logSums, kBlock), take(products, kBlock);
    take(rows, head), take(queryElements, head), take(dyElements, head), take(queryTokens, head), take(dyTokens, head);
    take(weights, block), take(slopes, block), take(slopesByQuery, block);
    take(keys, whole), take(values, whole), take(keyTokens, whole);
  }
};

/**
 * From scores and the gradient of weights to weights p = e^(s - logSum) and slopes ds = p (dp - dy . y) of the unscaled scores, for
 * `count` keys from `key` on and the queries from `query` on; slopes of an odd last key get a partner of zeros.
 */
template <typename T>
static void blockSlopes(const AttentionBackwardArgs& args, float slope, int64_t query, int64_t key, int64_t count,
                        const BackwardBuffers<T>& at) {
  constexpr int64_t P = Lanes<T>::pair;
  for (int64_t j = 0; j < (count + P - 1) / P * P; j++) {
    for (int64_t i = 0; i < kBlock; i += 16) {
      Vec p = zero(), ds = zero();
      // Queries before the key do not see it, nor do those that are a window behind it.
      const int64_t hidden = key + j - query - i, seen = args.window > 0 ? hidden + args.window : 16;
      if (j < count && hidden < 16 && seen > 0) {
        Vec s = load(at.scores + j * kBlock + i) * set(args.scale), slopeOfCap = set(args.scale);
        if (args.softcap > 0) {
          const Vec t = tanh(s * set(1.0f / args.softcap));
          s = t * set(args.softcap);
          slopeOfCap = slopeOfCap * (set(1.0f) - t * t);
        }
        if (slope != 0) {
          float distance[16];
          for (int64_t lane = 0; lane < 16; lane++) distance[lane] = static_cast<float>(hidden - lane);
          s = fma(load(distance), set(slope), s);
        }
        p = exp(s - load(at.logSums + i));
        if (hidden > 0) p = first(static_cast<int>(hidden), zero(), p);
        if (seen < 16) p = first(static_cast<int>(seen), p, zero());
        ds = p * (load(at.dWeights + j * kBlock + i) - load(at.products + i)) * slopeOfCap;
      }
      store(at.weights + j * kBlock + i, p);
      store(at.slopes + j * kBlock + i, ds);
    }
    if (j % P == P - 1) interleave(at.slopes + (j + 1 - P) * kBlock, kBlock, kBlock, at.slopesByQuery + (j + 1 - P) * kBlock);
  }
}

template <typename T>
static HeadRows<T> headRows(const void* data, int64_t first, int64_t stride, int64_t tokens, int64_t dim, int64_t head) {
  return {static_cast<const T*>(data) + first * stride + head * dim, stride, tokens, dim};
}

/** One query head of one sequence: its dQueries go into dProjected, its shares of dKeys and dValues into `partial`. */
template <typename T>
static void attendBackward(const AttentionBackwardArgs& args, int64_t sequence, int64_t head) {
  constexpr int64_t P = Lanes<T>::pair;
  const int64_t dim = args.headDim, padded = (dim + kHeadMultiple - 1) / kHeadMultiple * kHeadMultiple;
  const int64_t start = args.offsets[sequence], tokens = args.offsets[sequence + 1] - start;
  const int64_t stride = (args.heads + 2 * args.kvHeads) * dim, kvHead = head / (args.heads / args.kvHeads);
  const auto projected = [&](int64_t index) { return headRows<T>(args.projected, start, stride, tokens, dim, index); };
  const HeadRows<T> queries = projected(head), dy = headRows<T>(args.dy, start, args.heads * dim, tokens, dim, head);
  const HeadRows<T> y = headRows<T>(args.y, start, args.heads * dim, tokens, dim, head);
  float* dKeys = args.partial + (args.heads * start + head * tokens) * 2 * padded; // [tokens, padded] each
  float* dValues = dKeys + tokens * padded;
  memset(dKeys, 0, 2 * tokens * padded * sizeof(float));
  const int64_t blocks = (tokens + kBlock - 1) / kBlock * kBlock;
  const BackwardBuffers<T> at(padded, blocks);
  copyRows(projected(args.heads + kvHead), 0, blocks, padded, at.keys);
  copyRows(projected(args.heads + args.kvHeads + kvHead), 0, blocks, padded, at.values);
  pairTokens(at.keys, blocks, padded, at.keyTokens);
  for (int64_t query = 0; query < tokens; query += kBlock) {
    const int64_t rows = tokens - query < kBlock ? tokens - query : kBlock;
    const auto pack = [&](const HeadRows<T>& from, T* elements, T* byToken) {
      copyRows(from, query, kBlock, padded, at.rows);
      pairElements(at.rows, padded, elements);
      pairTokens(at.rows, kBlock, padded, byToken);
    };
    pack(queries, at.queryElements, at.queryTokens);
    pack(dy, at.dyElements, at.dyTokens); // leaves dy in at.rows
    for (int64_t i = 0; i < kBlock; i++) {
      at.logSums[i] = i < rows ? args.logSums[(start + query + i) * args.heads + head] : INFINITY; // e^-inf: no weight
      Vec product = zero();
      for (int64_t d = 0; i < rows && d < dim; d += 16)
        product = fma(load(at.rows + i * padded + d), loadFirst(y.at(query + i) + d, dim - d < 16 ? dim - d : 16), product);
      at.products[i] = sum(product);
    }
    memset(at.dQueries, 0, kBlock * padded * sizeof(float));
    const int64_t seenFrom = args.window > 0 && query >= args.window ? (query - args.window + 1) / kBlock * kBlock : 0;
    for (int64_t key = seenFrom; key < query + rows; key += kBlock) {
      const int64_t count = tokens - key < kBlock ? tokens - key : kBlock, pairs = (count + P - 1) / P;
      outer<T, false>({at.keys + key * padded, padded, P}, count, at.queryElements, kBlock, padded / P, at.scores, kBlock);
      outer<T, false>({at.values + key * padded, padded, P}, count, at.dyElements, kBlock, padded / P, at.dWeights, kBlock);
      blockSlopes(args, args.slopes ? args.slopes[head] : 0.0f, query, key, count, at);
      outer<T, true>({at.weights, kBlock, P}, count, at.dyTokens, padded, kBlock / P, dValues + key * padded, padded);
      outer<T, true>({at.slopes, kBlock, P}, count, at.queryTokens, padded, kBlock / P, dKeys + key * padded, padded);
      outer<T, true>({at.slopesByQuery, P, kBlock * P}, rows, at.keyTokens + key * padded, padded, pairs, at.dQueries, padded);
    }
    for (int64_t i = 0; i < rows; i++) {
      T* to = static_cast<T*>(args.dProjected) + (start + query + i) * stride + head * dim;
      for (int64_t d = 0; d < dim; d += 16) storeFirst(to + d, load(at.dQueries + i * padded + d), dim - d < 16 ? dim - d : 16);
    }
  }
}

/** Tokens of one sequence: joins the heads' shares of dKeys and dValues, and rotates dQueries and dKeys back. */
template <typename T>
static void joinBackward(const AttentionBackwardArgs& args, int64_t sequence, int64_t from, int64_t to) {
  const int64_t dim = args.headDim, padded = (dim + kHeadMultiple - 1) / kHeadMultiple * kHeadMultiple;
  const int64_t start = args.offsets[sequence], tokens = args.offsets[sequence + 1] - start, group = args.heads / args.kvHeads;
  for (int64_t t = from; t < to; t++) {
    T* row = static_cast<T*>(args.dProjected) + (start + t) * (args.heads + 2 * args.kvHeads) * dim;
    for (int64_t isValue = 0; isValue < 2; isValue++) {
      for (int64_t kvHead = 0; kvHead < args.kvHeads; kvHead++) {
        T* out = row + (args.heads + isValue * args.kvHeads + kvHead) * dim;
        const float* share = args.partial + ((args.heads * start + kvHead * group * tokens) * 2 + isValue * tokens + t) * padded;
        for (int64_t d = 0; d < dim; d += 16) {
          Vec total = load(share + d);
          for (int64_t q = 1; q < group; q++) total = total + load(share + q * 2 * tokens * padded + d);
          storeFirst(out + d, total, dim - d < 16 ? dim - d : 16);
        }
      }
    }
    if (args.rotary.cos)
      for (int64_t h = 0; h < args.heads + args.kvHeads; h++) rotateHead(row + h * dim, row + h * dim, dim, args.rotary, t);
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
