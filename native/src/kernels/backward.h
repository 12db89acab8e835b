// Gradients of norms and activations, row by row; sums in float32, rounded once.
#pragma once

#include "elementwise.h"
#include "kernels.h"
#include "simd.h"

namespace tschat {
namespace TSCHAT_ISA {

/** Sixteen elements at k, or as many as the row has, with zeros behind them. */
template <typename T>
static inline Vec loadUpTo(const T* p, int64_t k, int64_t width) {
  return k + 16 <= width ? load(p + k) : loadFirst(p + k, width - k);
}
template <typename T>
static inline void storeUpTo(T* p, Vec a, int64_t k, int64_t width) {
  if (k + 16 <= width) store(p + k, a);
  else storeFirst(p + k, a, width - k);
}

/**
 * With n = (x - mean) * r the normalised row and g = dy * weight: dx = r * (g - mean(g) - n * mean(g n)), the second term only with a
 * mean (layer norm); dweight += dy n, dbias += dy.
 */
template <typename T>
static void normBackward(const NormBackwardArgs& args, int64_t from, int64_t to, float* dWeight, float* dBias) {
  const int64_t width = args.width;
  const bool hasMean = args.kind == Norm::kLayer;
  const T* weight = static_cast<const T*>(args.weight);
  const Vec one = set(weightOffset(args.kind));
  for (int64_t i = from; i < to; i++) {
    const T *x = static_cast<const T*>(args.x) + i * width, *dy = static_cast<const T*>(args.dy) + i * width;
    T* dx = static_cast<T*>(args.dx) + i * width;
    const Moments moments = momentsOf(x, width, args.kind, args.eps);
    const Vec center = set(moments.mean), factor = set(moments.factor);
    const auto gradient = [&](int64_t k) { // of the normalised row
      const Vec d = loadUpTo(dy, k, width);
      return weight ? d * (loadUpTo(weight, k, width) + one) : d;
    };
    Vec sums = zero(), products = zero();
    for (int64_t k = 0; k < width; k += 16) {
      const Vec g = gradient(k);
      sums = sums + g;
      products = fma(g, (loadUpTo(x, k, width) - center) * factor, products);
    }
    const Vec meanGradient = set(hasMean ? sum(sums) / width : 0.0f), meanProduct = set(sum(products) / width);
    for (int64_t k = 0; k < width; k += 16) {
      const Vec n = (loadUpTo(x, k, width) - center) * factor, d = loadUpTo(dy, k, width);
      storeUpTo(dx, factor * (gradient(k) - meanGradient - n * meanProduct), k, width);
      if (dWeight) storeUpTo(dWeight, fma(d, n, loadUpTo(dWeight, k, width)), k, width);
      if (dBias) storeUpTo(dBias, loadUpTo(dBias, k, width) + d, k, width);
    }
  }
}

/** sum += x */
template <typename T>
static void accumulate(const void* x, float* sum, int64_t from, int64_t to) {
  const T* values = static_cast<const T*>(x);
  int64_t i = from;
  for (; i + 16 <= to; i += 16) store(sum + i, load(sum + i) + load(values + i));
  for (; i < to; i++) sum[i] += toFloat(values[i]);
}

/** The derivative of `activate`. */
static inline Vec slope(Vec x, Activation activation) {
  const Vec one = set(1.0f), half = set(0.5f);
  switch (activation) {
    case Activation::kSilu: {
      const Vec s = one / (one + exp(zero() - x));
      return s * fma(x, one - s, one);
    }
    case Activation::kGelu: {
      const Vec density = exp(x * x * set(-0.5f)) * set(0.39894228f);
      return fma(x, density, half * (one + erf(x * set(0.70710678f))));
    }
    case Activation::kGeluTanh: {
      const Vec t = tanh(set(0.79788456f) * fma(x * x * x, set(0.044715f), x));
      const Vec inner = set(0.79788456f) * fma(x * x, set(3 * 0.044715f), one);
      return fma(half * x * (one - t * t), inner, half * (one + t));
    }
    case Activation::kRelu: return whereAbove(x, 0.0f, one);
    default: return one;
  }
}

/** dx of y = activation(gate) * up, or of y = activation(x). */
template <typename T>
static void activationBackward(const ActivationBackwardArgs& args, int64_t from, int64_t to) {
  const int64_t width = args.width, stride = args.gated ? 2 * width : width;
  for (int64_t i = from; i < to; i++) {
    const T *x = static_cast<const T*>(args.x) + i * stride, *dy = static_cast<const T*>(args.dy) + i * width;
    T* dx = static_cast<T*>(args.dx) + i * stride;
    for (int64_t k = 0; k < width; k += 16) {
      const Vec gate = loadUpTo(x, k, width), d = loadUpTo(dy, k, width), dGate = d * slope(gate, args.activation);
      if (args.gated) {
        storeUpTo(dx, dGate * loadUpTo(x + width, k, width), k, width);
        storeUpTo(dx + width, d * activate(gate, args.activation), k, width);
      } else {
        storeUpTo(dx, dGate, k, width);
      }
    }
  }
}

}  // namespace TSCHAT_ISA
}  // namespace tschat
