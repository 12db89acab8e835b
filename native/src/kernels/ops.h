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

}  // namespace tschat
