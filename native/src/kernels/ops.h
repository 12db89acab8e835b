// What the files of operators share.
#pragma once

#include <ATen/ATen.h>

#include "kernels.h"

namespace tschat {

using MaybeTensor = std::optional<at::Tensor>;

/** The kernels for x's element type. */
const Kernels& kernelsFor(const at::Tensor& x);
/** Null for none; else the data of a contiguous tensor of x's type with `size` elements. */
const void* dataOf(const MaybeTensor& tensor, const at::Tensor& x, int64_t size, const char* what);
/** 0 none, 1 silu, 2 gelu, 3 gelu-tanh, 4 relu. */
Activation activationOf(int64_t code);

at::Tensor normRows(const at::Tensor& input, int64_t kind, const MaybeTensor& weight, const MaybeTensor& bias, double eps);
at::Tensor activateRows(const at::Tensor& input, int64_t activation, bool gated);
at::Tensor layerProduct(const at::Tensor& input, const at::Tensor& weight, const MaybeTensor& bias, int64_t norm,
                        const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation, bool gated,
                        const MaybeTensor& residual, const MaybeTensor& scales);

/**
 * Gradients of low-rank adapters, which add scale * B A to rows of a matrix: with G the gradient of its outputs, dA = scale (G B)^T x and
 * dB = scale G^T (x A^T). That of the matrix itself, [out, in], is never made. Several parts of the matrix, the i-th from row rows[2 i]
 * to row rows[2 i + 1], have adapters of one rank, whose factors lie below each other.
 *
 * @param product gradient of all outputs, [tokens, out]
 * @param x what the matrix was multiplied with, [tokens, in]
 * @param a [parts * rank, in]
 * @param b [rows of all parts, rank]
 */
std::pair<at::Tensor, at::Tensor> loraGradients(const at::Tensor& product, const at::Tensor& x, const at::Tensor& a, const at::Tensor& b,
                                                at::IntArrayRef rows, double scale);

/** See `AppendArgs`. */
void appendCache(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& positions,
                 const at::Tensor& places, const MaybeTensor& cos, const MaybeTensor& signedSin, int64_t heads);
/** Attention of prompts in the cache; `logSums` [tokens, heads] or null gets the log of the sum of e^score. */
at::Tensor promptAttentionWithSums(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& pages,
                                   const at::Tensor& sequences, const at::Tensor& positions, int64_t heads, double scale, int64_t window,
                                   double softcap, const MaybeTensor& slopes, float* logSums);
}  // namespace tschat
