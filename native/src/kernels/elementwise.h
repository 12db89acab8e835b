// Norms and activations of whole rows, sixteen elements at a time.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

/** The sum over a row of f(16 elements); lanes behind the row's end are zero in what f gets and masked in what it gives. */
template <typename T, typename F>
static inline float rowSum(const T* x, int64_t width, F f) {
  Vec total = zero();
  int64_t k = 0;
  for (; k + 16 <= width; k += 16) total = total + f(load(x + k));
  if (k < width) total = total + first(static_cast<int>(width - k), f(loadFirst(x + k, width - k)), zero());
  return sum(total);
}

/** What a norm subtracts from a row, and multiplies it with. */
struct Moments {
  float mean, factor;
};
template <typename T>
static inline Moments momentsOf(const T* x, int64_t width, Norm kind, float eps) {
  const float mean = kind == Norm::kLayer ? rowSum(x, width, [](Vec a) { return a; }) / width : 0.0f;
  const Vec center = set(mean);
  const float squares = rowSum(x, width, [&](Vec a) { return (a - center) * (a - center); });
  return {mean, 1.0f / sqrtf(squares / width + eps)};
}

/** What is added to a norm's weights. */
static inline float weightOffset(Norm kind) { return kind == Norm::kRmsPlusOne ? 1.0f : 0.0f; }

/** x normalised in float32 and rounded once, as libtorch's norms do. */
template <typename T>
static void normRow(const NormArgs& args, const T* x, T* y) {
  const int64_t width = args.width;
  const Moments moments = momentsOf(x, width, args.kind, args.eps);
  const Vec center = set(moments.mean), factor = set(moments.factor);
  const T *weight = static_cast<const T*>(args.weight), *bias = static_cast<const T*>(args.bias);
  const Vec one = set(weightOffset(args.kind));
  const auto apply = [&](Vec a, Vec w, Vec b) { return fma((a - center) * factor, w, b); };
  int64_t k = 0;
  for (; k + 16 <= width; k += 16)
    store(y + k, apply(load(x + k), weight ? load(weight + k) + one : set(1.0f), bias ? load(bias + k) : zero()));
  if (const int64_t rest = width - k; rest > 0) {
    const Vec w = weight ? loadFirst(weight + k, rest) + one : set(1.0f), b = bias ? loadFirst(bias + k, rest) : zero();
    storeFirst(y + k, apply(loadFirst(x + k, rest), w, b), rest);
  }
}

template <typename T>
static void norm(const NormArgs& args, int64_t from, int64_t to) {
  for (int64_t i = from; i < to; i++)
    normRow(args, static_cast<const T*>(args.x) + i * args.width, static_cast<T*>(args.y) + i * args.width);
}

static inline Vec activate(Vec x, Activation activation) {
  switch (activation) {
    case Activation::kSilu: return x / (set(1.0f) + exp(zero() - x));
    case Activation::kGelu: return x * set(0.5f) * (set(1.0f) + erf(x * set(0.70710678f)));
    case Activation::kGeluTanh: return x * set(0.5f) * (set(1.0f) + tanh(set(0.79788456f) * fma(x * x * x, set(0.044715f), x)));
    case Activation::kRelu: return max(zero(), x); // of a NaN, `max` gives the second
    default: return x;
  }
}

template <typename T>
static void activation(const ActivationArgs& args, int64_t from, int64_t to) {
  const int64_t width = args.width, stride = args.gated ? 2 * width : width;
  for (int64_t i = from; i < to; i++) {
    const T* x = static_cast<const T*>(args.x) + i * stride;
    T* y = static_cast<T*>(args.y) + i * width;
    const auto apply = [&](Vec gate, Vec up) {
      const Vec active = activate(gate, args.activation);
      return args.gated ? rounded<T>(active) * up : active;
    };
    int64_t k = 0;
    for (; k + 16 <= width; k += 16) store(y + k, apply(load(x + k), args.gated ? load(x + width + k) : zero()));
    if (const int64_t rest = width - k; rest > 0) {
      storeFirst(y + k, apply(loadFirst(x + k, rest), args.gated ? loadFirst(x + width + k, rest) : zero()), rest);
    }
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
