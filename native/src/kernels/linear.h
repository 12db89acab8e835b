// Products of few rows, the ones that decoding is made of: the weight is streamed once, as it lies. Every output of every row is the
// same sequence of additions whatever the other rows are, so a sequence's tokens do not depend on the batch it is decoded in.
#pragma once

#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {


#if defined(__AVX512BF16__)

/** Rows and outputs of a tile: sixteen sums, which one vector holds after they are added up across lanes. */
constexpr int kTileRows = 4, kTile = 4;

/** Lanes of a and b added half to half: [a low + a high, b low + b high]. */
static inline __m512 addHalves(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
}
/** The same for quarters within each half. */
static inline __m512 addQuarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

/** y[r][o] = sum over the lanes of total[r][o]: each in the same order, all sixteen with fifteen additions of vectors. */
template <int rows>
static inline void addLanes(const Vec (&total)[rows][kTile], float* y, int64_t stride) {
  __m512 quarters[kTile]; // of each output, four floats of each row
  for (int o = 0; o < kTile; o++) {
    const auto row = [&](int r) { return total[r % rows][o].v; };
    const __m512 a = addHalves(row(0), row(1));
    quarters[o] = addQuarters(a, rows > 2 ? addHalves(row(2), row(3)) : a);
  }
  const auto add = [](__m512 a, __m512 b) { return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); };
  const __m512d a = _mm512_castps_pd(add(quarters[0], quarters[1])), b = _mm512_castps_pd(add(quarters[2], quarters[3]));
  const __m512 sums = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  _mm_storeu_ps(y, _mm512_castps512_ps128(sums));
  if (rows > 1) _mm_storeu_ps(y + stride, _mm512_extractf32x4_ps(sums, 1));
  if (rows > 2) _mm_storeu_ps(y + 2 * stride, _mm512_extractf32x4_ps(sums, 2));
  if (rows > 2) _mm_storeu_ps(y + 3 * stride, _mm512_extractf32x4_ps(sums, 3));
}

#else

/** As many sums as there are registers for. */
constexpr int kTileRows = 2, kTile = 2;

template <int rows>
static inline void addLanes(const Vec (&total)[rows][kTile], float* y, int64_t stride) {
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < kTile; o++) y[r * stride + o] = sum(total[r][o]);
}

#endif

/** The first `count` elements of x or of a weight, which may be int8. */
template <typename T, typename W>
static inline typename Lanes<T>::Raw loadEnd(const W* p, int64_t count) {
  if constexpr (sizeof(W) == 1) return loadFirst<T>(p, count);
  else return Lanes<T>::loadFirst(p, count);
}

/** `rows` rows of x times kTile rows of the weight, of T or int8; each step brings `lines` lines of what comes next. */
template <typename T, int rows, typename W>
static inline void tile(const T* x, const W* const (&weight)[kTile], int64_t width, float* y, int64_t stride, Upcoming& upcoming,
                        int lines) {
  using L = Lanes<T>;
  Vec total[rows][kTile];
  for (int r = 0; r < rows; r++)
    for (int o = 0; o < kTile; o++) total[r][o] = zero();
  const auto accumulate = [&](auto loadAt) {
    for (int i = 0; i < lines; i++) upcoming.bring();
    typename L::Raw w[kTile];
    for (int o = 0; o < kTile; o++) w[o] = loadAt(weight[o]);
    for (int r = 0; r < rows; r++) {
      const typename L::Raw value = loadAt(x + r * width);
      for (int o = 0; o < kTile; o++) total[r][o] = L::multiply(w[o], value, total[r][o]);
    }
  };
  if (rows == 1) { // one output after another: the memory likes a single stream best
    constexpr int64_t kAhead = 2048;
    for (int o = 0; o < kTile; o++) {
      int64_t k = 0;
      for (; k + L::step <= width; k += L::step) {
        __builtin_prefetch(reinterpret_cast<const char*>(weight[o] + k) + kAhead, 0, 2);
        total[0][o] = L::multiply(L::load(weight[o] + k), L::load(x + k), total[0][o]);
      }
      if (k < width)
        total[0][o] = L::multiply(loadEnd<T>(weight[o] + k, width - k), loadEnd<T>(x + k, width - k), total[0][o]);
    }
    return addLanes<rows>(total, y, stride);
  }
  int64_t k = 0;
  for (; k + L::step <= width; k += L::step) accumulate([&](const auto* row) { return L::load(row + k); });
  if (k < width) accumulate([&](const auto* row) { return loadEnd<T>(row + k, width - k); });
  addLanes<rows>(total, y, stride);
}

/**
 * y [rows, kLinearGroup] = x [rows, width] times `outputs` <= kLinearGroup rows of the weight; columns behind them get anything. While
 * the rows pass, what comes next is fetched: with many rows the memory would idle otherwise.
 */
template <typename T, typename W>
static void groupProduct(const T* x, const W* weight, int64_t rows, int64_t width, int64_t outputs, float* y, Upcoming upcoming) {
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows * ((outputs + kTile - 1) / kTile);
  const int64_t steps = tiles * ((width + Lanes<T>::step - 1) / Lanes<T>::step);
  const int lines = static_cast<int>(((upcoming.end - upcoming.next) / 64 + steps - 1) / steps);
  // As many outputs at a time as stay in the first cache while the rows pass.
  constexpr int64_t kCached = 20480;
  const int64_t cached = kCached / (width * static_cast<int64_t>(sizeof(T))) / kTile * kTile;
  const int64_t part = cached < kTile ? kTile : cached;
  for (int64_t from = 0; from < outputs; from += part) {
    const int64_t to = from + part < outputs ? from + part : outputs;
    const auto block = [&](int64_t row, auto run) {
      for (int64_t o = from; o < to; o += kTile) {
        const W* pointers[kTile];
        for (int64_t i = 0; i < kTile; i++) pointers[i] = weight + (o + i < outputs ? o + i : outputs - 1) * width;
        run(x + row * width, pointers, y + row * kLinearGroup + o);
      }
    };
    int64_t row = 0;
    const auto tileRows = [&]<int count>() {
      block(row, [&](const T* xs, const W* const (&ws)[kTile], float* ys) {
        tile<T, count>(xs, ws, width, ys, kLinearGroup, upcoming, lines);
      });
      row += count;
    };
    while (row + kTileRows <= rows) tileRows.template operator()<kTileRows>();
    if (rows - row >= 2) tileRows.template operator()<2>();
    if (row < rows) tileRows.template operator()<1>();
  }
}

/** int8 rows as T, exact and not yet scaled. */
template <typename T>
static const T* widen(const int8_t* rows, int64_t count) {
  T* wide = static_cast<T*>(scratch(2, count * sizeof(T)));
  int64_t k = 0;
  for (; k + Lanes<T>::step <= count; k += Lanes<T>::step) {
    const typename Lanes<T>::Raw raw = Lanes<T>::load(rows + k);
    memcpy(wide + k, &raw, sizeof raw);
  }
  for (; k < count; k++) assign(wide[k], rows[k]);
  return wide;
}

/** Rows that one pass over the weight serves: as many as stay in the second cache, in equal blocks, so that tasks are alike. */
template <typename T>
static int64_t rowsOfBlock(int64_t rows, int64_t width) {
  constexpr int64_t kCached = 262144;
  const int64_t fitting = kCached / (width * static_cast<int64_t>(sizeof(T))) / 4 * 4, most = fitting < 4 ? 4 : fitting;
  const int64_t blocks = (rows + most - 1) / most;
  return (rows + blocks * 4 - 1) / (blocks * 4) * 4;
}

/** One group of outputs for rows [0, rows) of x, y and the residual, which are moved to the block's first row. */
template <typename T>
static void linearGroup(const LinearArgs& args, const T* x, const T* residual, T* y, int64_t rows, int64_t group) {
  const int64_t width = args.norm.width, outputs = args.outputs;
  const int64_t j = group * kLinearGroup, count = outputs - j < kLinearGroup ? outputs - j : kLinearGroup;
  float* products = static_cast<float*>(scratch(1, 2 * rows * kLinearGroup * sizeof(float)));
  float* ups = products + rows * kLinearGroup;
  const int64_t rowBytes = width * (args.scales ? 1 : sizeof(T));
  const char* weights = static_cast<const char*>(args.weight);
  const auto multiply = [&](int64_t from, float* sums) {
    const char* rowsOfWeight = weights + from * rowBytes;
    // Few rows: the next tile; more of them: the same place in the next group.
    const char* next = rowsOfWeight + (rows <= 4 ? kTile : kLinearGroup) * rowBytes;
    const char *stop = next + count * rowBytes, *end = weights + (from < outputs ? outputs : 2 * outputs) * rowBytes;
    const Upcoming upcoming = {next, stop < end ? stop : end};
    const int8_t* small = reinterpret_cast<const int8_t*>(rowsOfWeight);
    // For few rows int8 is widened in registers, for more of them once, before they all pass.
    if (args.scales && rows <= 4) groupProduct(x, small, rows, width, count, sums, upcoming);
    else if (args.scales) groupProduct(x, widen<T>(small, count * width), rows, width, count, sums, upcoming);
    else groupProduct(x, reinterpret_cast<const T*>(rowsOfWeight), rows, width, count, sums, upcoming);
  };
  multiply(j, products);
  if (args.gated) multiply(outputs + j, ups);
  const auto finish = [&](const float* sums, int64_t at) { // scale and bias, rounded as the product's tensor would be
    Vec value = load(sums);
    if (args.scales) value = value * loadFirst(args.scales + at, count);
    if (args.bias) value = value + loadFirst(static_cast<const T*>(args.bias) + at, count);
    return rounded<T>(value);
  };
  for (int64_t r = 0; r < rows; r++) {
    Vec value = finish(products + r * kLinearGroup, j);
    if (args.activation != Activation::kNone) value = rounded<T>(activate(value, args.activation));
    if (args.gated) value = rounded<T>(value * finish(ups + r * kLinearGroup, outputs + j));
    if (residual) value = value + loadFirst(residual + r * outputs + j, count);
    T* to = y + r * outputs + j;
    if (count == kLinearGroup) store(to, value);
    else storeFirst(to, value, count);
  }
}

/** A task is a group of outputs of a block of rows; groups go fastest, so that the block's rows stay in the cache. */
template <typename T>
static int64_t linearTasks(const LinearArgs& args) {
  if (args.rows == 0) return 0;
  const int64_t block = rowsOfBlock<T>(args.rows, args.norm.width);
  return (args.rows + block - 1) / block * ((args.outputs + kLinearGroup - 1) / kLinearGroup);
}

template <typename T>
static void linear(const LinearArgs& args, int64_t from, int64_t to) {
  const int64_t width = args.norm.width, outputs = args.outputs;
  const int64_t block = rowsOfBlock<T>(args.rows, width), groups = (outputs + kLinearGroup - 1) / kLinearGroup;
  const T* x = static_cast<const T*>(args.norm.x);
  if (args.norm.kind != Norm::kNone) {
    // Each thread normalises all rows for itself: for few rows that is less than waiting for the others.
    T* normed = static_cast<T*>(scratch(0, args.rows * width * sizeof(T)));
    for (int64_t r = 0; r < args.rows; r++) normRow(args.norm, x + r * width, normed + r * width);
    x = normed;
  }
  for (int64_t task = from; task < to; task++) {
    const int64_t row = task / groups * block, rows = args.rows - row < block ? args.rows - row : block;
    const T* residual = args.residual ? static_cast<const T*>(args.residual) + row * outputs : nullptr;
    linearGroup(args, x + row * width, residual, static_cast<T*>(args.y) + row * outputs, rows, task % groups);
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
