// Sixteen floats, and thirty-two bfloat16 as sixteen pairs, for the instruction set that the including file is compiled for. Only the
// isa_*.cc files include this. They share no inline function with other files (no ATen, no C++ library): the linker keeps one copy of
// each, and it could be the one that an older processor cannot run.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace tschat {
namespace TSCHAT_ISA {

/** The bits of a bfloat16. */
struct BF16 {
  uint16_t bits;
};

/** Bytes of memory that will be needed soon, brought into the second cache line by line while something else is computed. */
struct Upcoming {
  const char* next;
  const char* end;
  inline void bring() {
    if (next < end) {
      __builtin_prefetch(next, 0, 2);
      next += 64;
    }
  }
};

static inline float toFloat(float x) { return x; }
static inline float toFloat(BF16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline void assign(float& to, float x) { to = x; }
/** Rounds to nearest, ties to even; NaN stays NaN. */
static inline void assign(BF16& to, float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  to.bits = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(__AVX512BF16__)

struct Vec {
  __m512 v;
};
/** Thirty-two bfloat16. */
struct Pairs {
  __m512bh v;
};

static inline Vec zero() { return {_mm512_setzero_ps()}; }
static inline Vec set(float x) { return {_mm512_set1_ps(x)}; }
static inline Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
static inline Vec load(const BF16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
}
static inline Vec load(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
static inline void store(float* p, Vec a) { _mm512_storeu_ps(p, a.v); }
static inline void store(BF16* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a.v)));
}
static inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
static inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
static inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
static inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
/** a * b + c */
static inline Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
static inline Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
static inline Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
static inline Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
/** a * 2^n for whole numbers n */
static inline Vec scale(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
static inline float sum(Vec a) { return _mm512_reduce_add_ps(a.v); }
static inline float largest(Vec a) { return _mm512_reduce_max_ps(a.v); }
/** `a` in the first `count` lanes, `b` in the others. */
static inline Vec first(int count, Vec a, Vec b) {
  return {_mm512_mask_mov_ps(b.v, static_cast<__mmask16>((1u << count) - 1), a.v)};
}

/** `a` where x > limit, else 0. */
static inline Vec whereAbove(Vec x, float limit, Vec a) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.v, _mm512_set1_ps(limit), _CMP_GT_OQ), a.v)};
}

static inline Pairs loadPairs(const BF16* p) { return {reinterpret_cast<__m512bh>(_mm512_loadu_si512(p))}; }
/** The first `count` elements and zeros; nothing behind them is read. */
static inline Pairs loadPairs(const BF16* p, int64_t count) {
  return {reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((uint64_t{1} << count) - 1), p))};
}
/** The pair at p in every place. */
static inline Pairs repeatPair(const BF16* p) {
  int32_t bits;
  memcpy(&bits, p, 4);
  return {reinterpret_cast<__m512bh>(_mm512_set1_epi32(bits))};
}
/** Lane i: c + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] */
static inline Vec dot(Pairs a, Pairs b, Vec c) { return {_mm512_dpbf16_ps(c.v, a.v, b.v)}; }
static inline Vec loadFirst(const float* p, int64_t count) {
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p)};
}

#else

// The compiler's own vectors, as wide as the registers are: the same code serves AVX2 and every other processor.
#if defined(__AVX2__)
constexpr int kPartBytes = 32;
#else
constexpr int kPartBytes = 16;
#endif
typedef float Part __attribute__((vector_size(kPartBytes)));
typedef uint32_t Bits __attribute__((vector_size(kPartBytes)));
typedef int32_t Whole __attribute__((vector_size(kPartBytes)));
typedef uint16_t Halves __attribute__((vector_size(kPartBytes / 2)));
typedef int8_t Bytes __attribute__((vector_size(kPartBytes / 4)));
constexpr int kLanes = kPartBytes / 4, kParts = 16 / kLanes;

struct Vec {
  Part v[kParts];
};
struct Pairs {
  Bits v[kParts];
};

#define TSCHAT_EACH(type, expression) \
  type result;                        \
  _Pragma("GCC unroll 4") for (int i = 0; i < kParts; i++) result.v[i] = expression; \
  return result

template <typename V, typename P>
static inline V read(const P* p) {
  V value;
  memcpy(&value, p, sizeof value);
  return value;
}
static inline Part fill(float x) { return Part{} + x; }

static inline Vec zero() { TSCHAT_EACH(Vec, Part{}); }
static inline Vec set(float x) { TSCHAT_EACH(Vec, fill(x)); }
static inline Vec load(const float* p) { TSCHAT_EACH(Vec, read<Part>(p + kLanes * i)); }
static inline Vec load(const BF16* p) {
  TSCHAT_EACH(Vec, (Part)(__builtin_convertvector(read<Halves>(p + kLanes * i), Bits) << 16));
}
static inline Vec load(const int8_t* p) {
  TSCHAT_EACH(Vec, __builtin_convertvector(__builtin_convertvector(read<Bytes>(p + kLanes * i), Whole), Part));
}
static inline void store(float* p, Vec a) {
  for (int i = 0; i < kParts; i++) memcpy(p + kLanes * i, &a.v[i], sizeof(Part));
}
static inline void store(BF16* p, Vec a) {
  for (int i = 0; i < kParts; i++) {
    const Bits bits = (Bits)a.v[i], odd = (bits >> 16) & 1, nan = Bits{} + 0x7fc0;
    const Bits rounded = (bits + 0x7fff + odd) >> 16;
    const Halves halves = __builtin_convertvector(a.v[i] == a.v[i] ? rounded : nan, Halves);
    memcpy(p + kLanes * i, &halves, sizeof halves);
  }
}
static inline Vec operator+(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] + b.v[i]); }
static inline Vec operator-(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] - b.v[i]); }
static inline Vec operator*(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] * b.v[i]); }
static inline Vec operator/(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] / b.v[i]); }
static inline Vec fma(Vec a, Vec b, Vec c) { TSCHAT_EACH(Vec, a.v[i] * b.v[i] + c.v[i]); }
static inline Vec max(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
static inline Vec min(Vec a, Vec b) { TSCHAT_EACH(Vec, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
/** For |a| < 2^22: what is added leaves no bit for a fraction. */
static inline Vec round(Vec a) { TSCHAT_EACH(Vec, (a.v[i] + 12582912.0f) - 12582912.0f); }
static inline Vec scale(Vec a, Vec n) { TSCHAT_EACH(Vec, a.v[i] * (Part)((__builtin_convertvector(n.v[i], Whole) + 127) << 23)); }
static inline Vec whereAbove(Vec x, float limit, Vec a) { TSCHAT_EACH(Vec, x.v[i] > fill(limit) ? a.v[i] : Part{}); }
static inline Pairs loadPairs(const BF16* p) { TSCHAT_EACH(Pairs, read<Bits>(p + 2 * kLanes * i)); }
static inline Pairs repeatPair(const BF16* p) { TSCHAT_EACH(Pairs, Bits{} + read<uint32_t>(p)); }
static inline Vec dot(Pairs a, Pairs b, Vec c) {
  // The second of a pair is its upper half as it stands, the first is the lower half moved up.
  const auto second = [](Bits x) { return (Part)(x & 0xffff0000u); };
  const auto first = [](Bits x) { return (Part)(x << 16); };
  TSCHAT_EACH(Vec, second(a.v[i]) * second(b.v[i]) + (first(a.v[i]) * first(b.v[i]) + c.v[i]));
}
#undef TSCHAT_EACH

static inline float sum(Vec a) {
  float values[16];
  store(values, a);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; i++) values[i] += values[i + half];
  return values[0];
}
static inline float largest(Vec a) {
  float values[16];
  store(values, a);
  float result = values[0];
  for (int i = 1; i < 16; i++) result = values[i] > result ? values[i] : result;
  return result;
}
static inline Vec first(int count, Vec a, Vec b) {
  float values[16], others[16];
  store(values, a);
  store(others, b);
  for (int i = count; i < 16; i++) values[i] = others[i];
  return load(values);
}
static inline Pairs loadPairs(const BF16* p, int64_t count) {
  BF16 values[32] = {};
  memcpy(values, p, count * sizeof(BF16));
  return loadPairs(values);
}
static inline Vec loadFirst(const float* p, int64_t count) {
  float values[16] = {};
  memcpy(values, p, count * sizeof(float));
  return load(values);
}
#endif

static inline Vec loadFirst(const BF16* p, int64_t count) {
  BF16 values[16] = {};
  memcpy(values, p, count * sizeof(BF16));
  return load(values);
}
template <typename T>
static inline void storeFirst(T* p, Vec a, int64_t count) {
  T values[16];
  store(values, a);
  memcpy(p, values, count * sizeof(T));
}

/** How the elements of T are multiplied: `step` products go into one Vec, `pair` of them into each of its lanes. */
template <typename T>
struct Lanes;
template <>
struct Lanes<float> {
  using Raw = Vec;
  static constexpr int pair = 1, step = 16;
  static inline Raw load(const float* p) { return TSCHAT_ISA::load(p); }
  static inline Raw loadFirst(const float* p, int64_t count) { return TSCHAT_ISA::loadFirst(p, count); }
  static inline Raw load(const int8_t* p) { return TSCHAT_ISA::load(p); }
  static inline Raw repeat(const float* p) { return set(*p); }
  static inline Vec multiply(Raw a, Raw b, Vec c) { return fma(a, b, c); }
};
template <>
struct Lanes<BF16> {
  using Raw = Pairs;
  static constexpr int pair = 2, step = 32;
  static inline Raw load(const BF16* p) { return loadPairs(p); }
  static inline Raw loadFirst(const BF16* p, int64_t count) { return loadPairs(p, count); }
  static inline Raw load(const int8_t* p) { // bfloat16 holds every int8
#if defined(__AVX512BF16__)
    return {_mm512_cvtne2ps_pbh(TSCHAT_ISA::load(p + 16).v, TSCHAT_ISA::load(p).v)};
#else
    BF16 values[32];
    store(values, TSCHAT_ISA::load(p));
    store(values + 16, TSCHAT_ISA::load(p + 16));
    return loadPairs(values);
#endif
  }
  static inline Raw repeat(const BF16* p) { return repeatPair(p); }
  static inline Vec multiply(Raw a, Raw b, Vec c) { return dot(a, b, c); }
};

/** The first `count` int8 and zeros. */
template <typename T>
static inline typename Lanes<T>::Raw loadFirst(const int8_t* p, int64_t count) {
  int8_t values[32] = {};
  memcpy(values, p, count);
  return Lanes<T>::load(values);
}

/** Values as they are after being stored as T: rounding where the training forward has a tensor of that type. */
template <typename T>
static inline Vec rounded(Vec a);
template <>
inline Vec rounded<float>(Vec a) { return a; }
template <>
inline Vec rounded<BF16>(Vec a) {
  BF16 values[16];
  store(values, a);
  return load(values);
}

/** e^x to 2 units in the last place; 0 from -87.3 down, e^88 from 88 up. Inlined by force: a call would pass the vectors in memory. */
__attribute__((always_inline)) static inline Vec exp(Vec argument) {
  const Vec x = min(max(argument, set(-87.3f)), set(88.0f));
  const Vec n = round(x * set(1.44269504f));
  // x - n ln 2 in two pieces, so that nothing is lost where n is large.
  Vec r = fma(n, set(-0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f); // minimax polynomial of Cephes' expf
  p = fma(p, r, set(1.3981999507e-3f));
  p = fma(p, r, set(8.3334519073e-3f));
  p = fma(p, r, set(4.1665795894e-2f));
  p = fma(p, r, set(1.6666665459e-1f));
  p = fma(p, r, set(5.0000001201e-1f));
  return whereAbove(argument, -87.3f, scale(fma(p, r * r, r + set(1.0f)), n));
}

static inline Vec tanh(Vec x) { return set(1.0f) - set(2.0f) / (exp(x + x) + set(1.0f)); }

/** Abramowitz and Stegun 7.1.26: to 1.5e-7. */
static inline Vec erf(Vec x) {
  const Vec size = max(x, zero() - x);
  const Vec t = set(1.0f) / fma(set(0.3275911f), size, set(1.0f));
  Vec p = set(1.061405429f);
  p = fma(p, t, set(-1.453152027f));
  p = fma(p, t, set(1.421413741f));
  p = fma(p, t, set(-0.284496736f));
  p = fma(p, t, set(0.254829592f));
  const Vec result = set(1.0f) - p * t * exp(zero() - size * size);
  // The sign of x: x / |x|, and 0 gives 0.
  return result * (x / max(size, set(1e-30f)));
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
