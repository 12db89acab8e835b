// tschat::layer_product, norm_rows and activate_rows: what a layer computes besides attention. Gradients: product_autograd.cc.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops.h"

namespace tschat {

/** Beyond these rows a norm in front of a product is a pass of its own, shared by the threads. */
static constexpr int64_t kFusedNormRows = 64;

const Kernels& kernelsFor(const at::Tensor& x) {
  TORCH_CHECK(x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16, "expected float32 or bfloat16, got ", x.scalar_type());
  return x.scalar_type() == at::kFloat ? kernels().float32 : kernels().bfloat16;
}

const void* dataOf(const MaybeTensor& tensor, const at::Tensor& x, int64_t size, const char* what) {
  if (!tensor) return nullptr;
  TORCH_CHECK(tensor->scalar_type() == x.scalar_type() && tensor->is_contiguous() && tensor->numel() == size, what, ": expected ", size,
              " contiguous elements of ", x.scalar_type(), ", got ", tensor->scalar_type(), tensor->sizes());
  return tensor->const_data_ptr();
}

static NormArgs normArgs(const at::Tensor& x, int64_t kind, const MaybeTensor& weight, const MaybeTensor& bias, double eps) {
  TORCH_CHECK(kind >= 0 && kind <= 3, "norm: expected 0 (none), 1 (rms), 2 (layer) or 3 (rms-plus-one), got ", kind);
  const int64_t width = x.size(-1);
  TORCH_CHECK(width > 0, "expected rows of at least one element, got ", x.sizes());
  return {x.const_data_ptr(), dataOf(weight, x, width, "norm weight"), dataOf(bias, x, width, "norm bias"), nullptr, width,
          static_cast<float>(eps), static_cast<Norm>(kind)};
}

Activation activationOf(int64_t code) {
  TORCH_CHECK(code >= 0 && code <= 4, "activation: expected 0 (none), 1 (silu), 2 (gelu), 3 (gelu-tanh) or 4 (relu), got ", code);
  return static_cast<Activation>(code);
}

at::Tensor normRows(const at::Tensor& input, int64_t kind, const MaybeTensor& weight, const MaybeTensor& bias, double eps) {
  TORCH_CHECK(kind != 0, "norm: expected 1 (rms), 2 (layer) or 3 (rms-plus-one), got 0");
  const at::Tensor x = input.contiguous();
  at::Tensor y = at::empty_like(x);
  const Kernels& kernel = kernelsFor(x);
  NormArgs args = normArgs(x, kind, weight, bias, eps);
  args.y = y.mutable_data_ptr();
  at::parallel_for(0, x.numel() / args.width, std::max<int64_t>(1, 4096 / args.width),
                   [&](int64_t from, int64_t to) { kernel.norm(args, from, to); });
  return y;
}

at::Tensor activateRows(const at::Tensor& input, int64_t activation, bool gated) {
  const at::Tensor x = input.contiguous();
  TORCH_CHECK(x.dim() > 0 && x.size(-1) > 0, "expected rows of at least one element, got ", x.sizes());
  std::vector<int64_t> shape = x.sizes().vec();
  TORCH_CHECK(!gated || shape.back() % 2 == 0, "a gated activation needs an even width, got ", shape.back());
  if (gated) shape.back() /= 2;
  at::Tensor y = at::empty(shape, x.options());
  const Kernels& kernel = kernelsFor(x);
  const ActivationArgs args = {x.const_data_ptr(), y.mutable_data_ptr(), shape.back(), activationOf(activation), gated};
  at::parallel_for(0, y.numel() / args.width, std::max<int64_t>(1, 4096 / args.width),
                   [&](int64_t from, int64_t to) { kernel.activation(args, from, to); });
  return y;
}

at::Tensor layerProduct(const at::Tensor& input, const at::Tensor& weight, const MaybeTensor& bias, int64_t norm,
                        const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation, bool gated,
                        const MaybeTensor& residual, const MaybeTensor& scales) {
  TORCH_CHECK(input.dim() == 2 && weight.dim() == 2 && input.size(1) == weight.size(1), "expected x [rows, in] and weight [out, in], got ",
              input.sizes(), " and ", weight.sizes());
  TORCH_CHECK(weight.scalar_type() == (scales ? at::kChar : input.scalar_type()), "expected a weight of ",
              scales ? at::kChar : input.scalar_type(), ", got ", weight.scalar_type());
  TORCH_CHECK(!gated || weight.size(0) % 2 == 0, "a gated product needs an even number of outputs, got ", weight.size(0));
  TORCH_CHECK(weight.is_contiguous(), "expected a contiguous weight");
  const bool isNormApart = norm != 0 && input.size(0) > kFusedNormRows;
  const at::Tensor x = isNormApart ? normRows(input, norm, normWeight, normBias, eps) : input.contiguous();
  const Kernels& kernel = kernelsFor(x);
  const int64_t rows = x.size(0), total = weight.size(0), outputs = gated ? total / 2 : total;
  at::Tensor y = at::empty({rows, outputs}, x.options());
  LinearArgs args = {};
  args.norm = normArgs(x, isNormApart ? 0 : norm, normWeight, normBias, eps);
  args.weight = weight.const_data_ptr();
  if (scales) {
    TORCH_CHECK(scales->scalar_type() == at::kFloat && scales->is_contiguous() && scales->numel() == total,
                "scales: expected a contiguous float32 tensor of ", total);
    args.scales = scales->const_data_ptr<float>();
  }
  args.bias = dataOf(bias, x, total, "bias");
  args.residual = dataOf(residual, x, rows * outputs, "residual");
  args.y = y.mutable_data_ptr();
  args.rows = rows;
  args.outputs = outputs;
  args.activation = activationOf(activation);
  args.gated = gated;
  at::parallel_for(0, kernel.linearTasks(args), 1, [&](int64_t from, int64_t to) { kernel.linear(args, from, to); });
  return y;
}

/** Low-rank adapters are in the weight already; they are named for their gradients (product_autograd.cc). */
static at::Tensor layerProductCpu(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias, int64_t norm,
                                  const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation, bool gated,
                                  const MaybeTensor& residual, const MaybeTensor& scales, const MaybeTensor&, const MaybeTensor&,
                                  at::IntArrayRef, double) {
  return layerProduct(x, weight, bias, norm, normWeight, normBias, eps, activation, gated, residual, scales);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def(
      "layer_product(Tensor x, Tensor weight, Tensor? bias=None, int norm=0, Tensor? norm_weight=None, Tensor? norm_bias=None, "
      "float eps=0, int activation=0, bool gated=False, Tensor? residual=None, Tensor? scales=None, Tensor? lora_a=None, "
      "Tensor? lora_b=None, int[] lora_rows=[], float lora_scale=0) -> Tensor");
  library.def("norm_rows(Tensor x, int norm, Tensor? weight, Tensor? bias, float eps) -> Tensor");
  library.def("activate_rows(Tensor x, int activation, bool gated) -> Tensor");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) {
  library.impl("layer_product", TORCH_FN(tschat::layerProductCpu));
  library.impl("norm_rows", TORCH_FN(tschat::normRows));
  library.impl("activate_rows", TORCH_FN(tschat::activateRows));
}
// Without this a gradient would silently be missing.
TORCH_LIBRARY_IMPL(tschat, Autograd, library) {
  for (const char* name : {"activate_rows"})
    library.impl(name, torch::autograd::autogradNotImplementedFallback());
}
