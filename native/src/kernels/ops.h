// What the files of operators share.
#pragma once

#include <ATen/ATen.h>

#include "kernels.h"

namespace tschat {

using MaybeTensor = std::optional<at::Tensor>;

/** The kernels for x's element type. */
const Kernels& kernelsFor(const at::Tensor& x);
/** 0 none, 1 silu, 2 gelu, 3 gelu-tanh, 4 relu. */
Activation activationOf(int64_t code);

at::Tensor normRows(const at::Tensor& input, int64_t kind, const MaybeTensor& weight, const MaybeTensor& bias, double eps);
at::Tensor activateRows(const at::Tensor& input, int64_t activation, bool gated);
at::Tensor layerProduct(const at::Tensor& input, const at::Tensor& weight, const MaybeTensor& bias, int64_t norm,
                        const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation, bool gated,
                        const MaybeTensor& residual, const MaybeTensor& scales);

/** See `AppendArgs`. */
void appendCache(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& positions,
                 const at::Tensor& places, const MaybeTensor& cos, const MaybeTensor& signedSin, int64_t heads);
/** Attention of prompts in the cache; `logSums` [tokens, heads] or null gets the log of the sum of e^score. */
at::Tensor promptAttentionWithSums(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& pages,
                                   const at::Tensor& sequences, const at::Tensor& positions, int64_t heads, double scale, int64_t window,
                                   double softcap, const MaybeTensor& slopes, float* logSums);
}  // namespace tschat
