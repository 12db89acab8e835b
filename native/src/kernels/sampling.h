// Drawing one token a row. Each limit is found without sorting the vocabulary: first a cheap bound that few values pass, then radix
// selection among those. A row's passes depend on nothing beside the row.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

/** Tokens that one partial sum of a distribution covers. */
constexpr int64_t kSumTokens = 512;
/** Buckets of the histogram that radix selection makes: 11 bits of a key. */
constexpr int kBuckets = 2048;

/** Float64 sums of sixteen floats at a time. */
#if defined(__AVX512BF16__)
struct Sums {
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  inline void add(const float* p) {
    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm256_loadu_ps(p)));
    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm256_loadu_ps(p + 8)));
  }
  double total() const { return _mm512_reduce_add_pd(_mm512_add_pd(low, high)); }
};
#else
struct Sums {
  typedef float Half __attribute__((vector_size(kPartBytes / 2)));
  typedef double Doubles __attribute__((vector_size(kPartBytes)));
  Doubles lanes[2] = {};
  inline void add(const float* p) {
    for (int i = 0; i < 2 * kParts; i++) lanes[i % 2] += __builtin_convertvector(read<Half>(p + kLanes / 2 * i), Doubles);
  }
  double total() const {
    double sum = 0;
    for (int i = 0; i < kLanes / 2; i++) sum += lanes[0][i] + lanes[1][i];
    return sum;
  }
};
#endif

/** Bit i: lane i is above the limit. */
static inline uint32_t lanesAbove(Vec x, float limit) {
#if defined(__AVX512BF16__)
  return _mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_GT_OQ);
#else
  uint32_t lanes = 0;
  for (int i = 0; i < kParts; i++) {
    const Whole isAbove = x.v[i] > fill(limit);
#if defined(__AVX2__)
    lanes |= static_cast<uint32_t>(__builtin_ia32_movmskps256((Part)isAbove)) << i * kLanes;
#else
    for (int j = 0; j < kLanes; j++) lanes |= static_cast<uint32_t>(isAbove[j] & 1) << (i * kLanes + j);
#endif
  }
  return lanes;
#endif
}

/** Writes the lanes x with low < x <= high one after another, sixteen floats in all, and gives their number. */
static inline int64_t storeBetween(float* to, Vec x, float low, float high) {
  const uint32_t lanes = lanesAbove(x, low) & ~lanesAbove(x, high);
  if (lanes == 0) return 0;
#if defined(__AVX512BF16__)
  store(to, {_mm512_maskz_compress_ps(static_cast<__mmask16>(lanes), x.v)});
#else
  float values[16];
  store(values, x);
  for (int i = 0, n = 0; i < 16; n += lanes >> i & 1, i++) to[n] = values[i];
#endif
  return __builtin_popcount(lanes);
}

/** f(sixteen elements, index of the first) for the whole row; lanes behind its end are -Infinity. */
template <typename T, typename F>
static inline void forEach(const T* x, int64_t count, F f) {
  // One call, so that f is inlined.
  for (int64_t k = 0; k < count; k += 16) {
    const int64_t rest = count - k;
    f(rest >= 16 ? load(x + k) : first(static_cast<int>(rest), loadFirst(x + k, rest), set(-INFINITY)), k);
  }
}

/** NaN for a row that holds NaN or Infinity. */
template <typename T>
static float largestLogit(const T* x, int64_t count) {
  Vec best = set(-INFINITY), poison = zero();
  forEach(x, count, [&](Vec v, int64_t) {
    best = max(best, v);
    // The larger of a finite number and NaN is the second in all our sets, and 0 times NaN or Infinity is NaN.
    poison = fma(max(set(-3e38f), v), zero(), poison);
  });
  return largest(best) + sum(poison);
}

/** What can be drawn: the weight of each token, 0 for none, and their sums. */
struct Weights {
  float* values; // `count` rounded up to sixteen
  double* sums; // of each kSumTokens values
  int64_t count;
  double total;
};

/** Weight of each token = f(sixteen elements of x, index of the first). */
template <typename T, typename F>
static void weigh(Weights& weights, const T* x, F f) {
  weights.total = 0;
  for (int64_t from = 0; from < weights.count; from += kSumTokens) {
    const int64_t count = weights.count - from < kSumTokens ? weights.count - from : kSumTokens;
    Sums sums;
    forEach(x + from, count, [&](Vec v, int64_t k) {
      store(weights.values + from + k, f(v, from + k));
      sums.add(weights.values + from + k);
    });
    weights.total += weights.sums[from / kSumTokens] = sums.total();
  }
}

/** Weights e^((x - most) * inverse), which is 1 for the largest logit. */
template <typename T>
static void weighLogits(Weights& weights, const T* x, float most, float inverse) {
  weigh(weights, x, [&](Vec v, int64_t) { return exp((v - set(most)) * set(inverse)); });
}

/** An integer that orders as x does; equal numbers have equal keys. */
static inline uint32_t keyOf(float x) {
  x += 0.0f; // -0 becomes 0
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

static inline float valueOf(uint32_t key) {
  const uint32_t bits = key ^ (key >> 31 ? 0x80000000u : 0xffffffffu);
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/** The largest number below x: "at least x" as "above" it. */
static inline float below(float x) { return nextafterf(x, -INFINITY); }

/** The elements with low < x <= high, in order; `to` may be x itself. */
template <typename T>
static int64_t collect(const T* x, int64_t count, float low, float high, float* to) {
  int64_t kept = 0;
  forEach(x, count, [&](Vec v, int64_t) { kept += storeBetween(to + kept, v, low, high); });
  return kept;
}

/** Adds 1, or by mass the value, to the bucket of each value: that of the 11 bits of its key from `shift` on. */
template <bool byMass>
static void addToBuckets(double* histogram, const float* values, int64_t count, int shift) {
  memset(histogram, 0, kBuckets * sizeof(double));
  constexpr int64_t kPart = 64; // whose buckets are computed as vectors
  for (int64_t from = 0; from < count; from += kPart) {
    const int64_t size = count - from < kPart ? count - from : kPart;
    uint32_t buckets[kPart];
    for (int64_t i = 0; i < size; i++) buckets[i] = keyOf(values[from + i]) >> shift & (kBuckets - 1);
    for (int64_t i = 0; i < size; i++) histogram[buckets[i]] += byMass ? values[from + i] : 1.0;
  }
}

/**
 * The smallest value such that the values above it number, or by mass add up to, less than the limit. There must be values, all finite;
 * most of them get lost.
 */
template <bool byMass>
static float leastKept(float* values, int64_t count, double limit, double* histogram) {
  constexpr int kShifts[] = {21, 10, 0}; // a bit of the second level is in the third too
  double above = 0;
  uint32_t key = 0;
  for (const int shift : kShifts) {
    addToBuckets<byMass>(histogram, values, count, shift);
    uint32_t bucket = 0;
    double sum = above;
    for (uint32_t b = kBuckets; b-- > 0 && sum < limit;) {
      if (histogram[b] == 0) continue;
      bucket = b;
      above = sum;
      sum += histogram[b];
    }
    key = (key & ~((uint32_t{kBuckets} << shift) - 1)) | bucket << shift;
    if (shift > 0) count = collect(values, count, below(valueOf(key)), below(valueOf(key + (1u << shift))), values);
  }
  return valueOf(key);
}

/** The k-th largest finite logit, or the smallest where there are fewer. */
template <typename T>
static float kthLargest(const T* x, int64_t count, int64_t k, float* values, double* histogram) {
  float limit = -INFINITY;
  // The k-th largest of the maxima of more than k groups is not above the k-th largest of all, and few logits are above it.
  const int64_t group = count / (4 * k + 1024);
  if (group > 1) {
    int64_t groups = 0;
    for (int64_t from = 0; from < count; from += 16 * group) {
      Vec best = set(-INFINITY);
      forEach(x + from, count - from < 16 * group ? count - from : 16 * group, [&](Vec v, int64_t) { best = max(best, v); });
      groups += storeBetween(values + groups, best, -INFINITY, INFINITY);
    }
    limit = below(leastKept<false>(values, groups, static_cast<double>(k), histogram));
  }
  const int64_t kept = collect(x, count, limit, INFINITY, values);
  return leastKept<false>(values, kept, static_cast<double>(k), histogram);
}

/** Leaves the smallest set of weights that reaches `share` of their total, and the equals of its smallest. */
static void keepShare(Weights& weights, double share, float* values, double* histogram) {
  // All weights up to the bound together are less than what may be left out.
  const float bound = static_cast<float>(0.999 * (1 - share) * weights.total / static_cast<double>(weights.count));
  const int64_t kept = collect(weights.values, weights.count, bound, INFINITY, values);
  const float limit = below(leastKept<true>(values, kept, share * weights.total, histogram));
  weigh(weights, weights.values, [&](Vec v, int64_t) { return whereAbove(v, limit, v); });
}

/** The first token whose cumulative weight exceeds that share of the total, so never one of weight 0. */
static int64_t tokenAt(const Weights& weights, double uniform) {
  const double target = uniform * weights.total; // less than the total, also rounded
  double sum = 0;
  int64_t from = 0;
  for (; from + kSumTokens < weights.count; from += kSumTokens) {
    const double next = sum + weights.sums[from / kSumTokens];
    if (next > target) break;
    sum = next;
  }
  // One by one the sum may round to slightly less than the partial sum and end at the last weight.
  int64_t token = from;
  for (int64_t i = from; i < weights.count && i < from + kSumTokens && sum <= target; i++) {
    if (weights.values[i] == 0) continue;
    token = i;
    sum += weights.values[i];
  }
  return token;
}

template <typename T>
static int64_t firstAbove(const T* x, int64_t count, float limit) {
  int64_t found = -1;
  forEach(x, count, [&](Vec v, int64_t k) {
    if (found >= 0) return;
    if (const uint32_t lanes = lanesAbove(v, limit)) found = k + __builtin_ctz(lanes);
  });
  return found;
}

/** The row as it is, or a copy in which the excluded tokens have no probability. */
template <typename T>
static const T* allowedLogits(const SampleArgs& args, int64_t row, const T* x) {
  const int64_t from = args.firstExcluded[row], to = args.firstExcluded[row + 1];
  if (from == to) return x;
  T* copy = static_cast<T*>(scratch(2, args.vocab * sizeof(T)));
  memcpy(copy, x, args.vocab * sizeof(T));
  for (int64_t i = from; i < to; i++) assign(copy[args.excluded[2 * i + 1]], -INFINITY);
  return copy;
}

/** The token, or a negative reason why there is none. */
template <typename T>
static int64_t sampleRow(const SampleArgs& args, int64_t row) {
  const int64_t vocab = args.vocab;
  const T* x = static_cast<const T*>(args.logits) + row * vocab;
  const double *settings = args.settings + 3 * row, temperature = settings[0] == 0 ? 1 : settings[0];
  // A temperature whose inverse is no float32 takes the largest logit or all alike, but makes no NaN of a difference of 0.
  const float inverse = 1 / temperature > 3e38 ? 3e38f : static_cast<float>(1 / temperature);
  const float most = largestLogit(x, vocab);
  if (most != most) return kNotANumber;
  if (most == -INFINITY) return kNothingToDraw;

  Weights weights = {static_cast<float*>(scratch(0, (vocab + 16) * sizeof(float))), nullptr, vocab, 0};
  float* values = static_cast<float*>(scratch(1, (vocab + 16) * sizeof(float)));
  double* histogram = static_cast<double*>(scratch(3, (kBuckets + vocab / kSumTokens + 1) * sizeof(double)));
  weights.sums = histogram + kBuckets;
  weighLogits(weights, x, most, inverse);
  const double logTotal = log(weights.total);

  const T* allowed = allowedLogits(args, row, x);
  const float mostAllowed = allowed == x ? most : largestLogit(allowed, vocab);
  if (mostAllowed == -INFINITY) return kNothingToDraw;
  int64_t token;
  if (settings[0] == 0) {
    token = firstAbove(allowed, vocab, below(mostAllowed));
  } else {
    const double topK = settings[1];
    if (allowed != x) weighLogits(weights, allowed, mostAllowed, inverse);
    if (topK > 0 && topK < static_cast<double>(vocab)) {
      const float limit = below(kthLargest(allowed, vocab, static_cast<int64_t>(topK), values, histogram));
      weigh(weights, allowed, [&](Vec v, int64_t k) { return whereAbove(v, limit, load(weights.values + k)); });
    }
    if (settings[2] < 1) keepShare(weights, settings[2], values, histogram);
    token = tokenAt(weights, args.uniforms[row]);
  }
  args.logprobs[row] = static_cast<float>((static_cast<double>(toFloat(x[token])) - most) / temperature - logTotal);
  return token;
}

template <typename T>
static void sample(const SampleArgs& args, int64_t from, int64_t to) {
  for (int64_t row = from; row < to; row++) args.tokens[row] = sampleRow<T>(args, row);
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
