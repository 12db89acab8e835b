// The gradients of tschat::layer_product and norm_rows. Forward is the very kernel that generation runs, so both see the same bits.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "kernels.h"
#include "ops.h"

namespace tschat {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** (dx, dweight, dbias) of norm_rows; the last two undefined where there is none. */
static std::tuple<at::Tensor, at::Tensor, at::Tensor> normBackward(const at::Tensor& x, const at::Tensor& gradient, int64_t kind,
                                                                   const MaybeTensor& weight, const MaybeTensor& bias, double eps) {
  const at::Tensor dy = gradient.contiguous();
  at::Tensor dx = at::empty_like(x);
  const int64_t width = x.size(-1), rows = x.numel() / width;
  const void* scale = weight ? weight->const_data_ptr() : nullptr;
  const NormBackwardArgs args = {x.const_data_ptr(), scale, dy.const_data_ptr(), dx.mutable_data_ptr(), width,
                                 static_cast<float>(eps), static_cast<Norm>(kind)};
  // Each thread sums over its own rows; the threads' sums are added in their order, so that a run repeats bit for bit.
  const int64_t threads = at::get_num_threads();
  const auto sums = [&](bool isNeeded) { return isNeeded ? at::zeros({threads, width}, x.options().dtype(at::kFloat)) : at::Tensor(); };
  at::Tensor dWeight = sums(weight.has_value()), dBias = sums(bias.has_value());
  const Kernels& kernel = kernelsFor(x);
  at::parallel_for(0, rows, std::max<int64_t>(1, 4096 / width), [&](int64_t from, int64_t to) {
    const auto own = [&](at::Tensor& all) { return all.defined() ? all.data_ptr<float>() + at::get_thread_num() * width : nullptr; };
    kernel.normBackward(args, from, to, own(dWeight), own(dBias));
  });
  const auto joined = [&](const at::Tensor& all) { return all.defined() ? all.sum(0).to(x.scalar_type()) : all; };
  return {dx, joined(dWeight), joined(dBias)};
}

static at::Tensor activationBackward(const at::Tensor& x, const at::Tensor& gradient, int64_t activation, bool gated) {
  const at::Tensor dy = gradient.contiguous();
  at::Tensor dx = at::empty_like(x);
  const ActivationBackwardArgs args = {x.const_data_ptr(), dy.const_data_ptr(), dx.mutable_data_ptr(), dy.size(-1),
                                       activationOf(activation), gated};
  const Kernels& kernel = kernelsFor(x);
  at::parallel_for(0, dy.numel() / args.width, std::max<int64_t>(1, 4096 / args.width),
                   [&](int64_t from, int64_t to) { kernel.activationBackward(args, from, to); });
  return dx;
}

/** sum += a b, where the sum may be float32 and the factors bfloat16. */
static void addProduct(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(sum.is_contiguous(), "expected a contiguous sum");
  if (sum.scalar_type() == a.scalar_type()) {
    at::Tensor(sum).addmm_(a, b);
    return;
  }
  TORCH_CHECK(sum.scalar_type() == at::kFloat, "expected a sum of ", at::kFloat, " or ", a.scalar_type(), ", got ", sum.scalar_type());
  const at::Tensor product = a.mm(b);
  TORCH_CHECK(product.sizes() == sum.sizes(), "expected a sum of ", product.sizes(), ", got ", sum.sizes());
  const Kernels& kernel = kernelsFor(product);
  const void* x = product.const_data_ptr();
  float* to = sum.mutable_data_ptr<float>();
  at::parallel_for(0, sum.numel(), 1 << 14, [&](int64_t from, int64_t end) { kernel.accumulate(x, to, from, end); });
}

/** The gradient of a weight, a^T b: added to the buffer that the leaf accumulates into (then there is none to return), else returned. */
static at::Tensor weightGradient(const at::Tensor& weight, const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor& sum = weight.is_leaf() ? weight.grad() : at::Tensor();
  if (!sum.defined()) return a.t().mm(b);
  addProduct(sum, a.t(), b);
  return {};
}

struct LayerProduct : torch::autograd::Function<LayerProduct> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, const at::Tensor& weight, const MaybeTensor& bias,
                            int64_t norm, const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation,
                            bool gated, const MaybeTensor& residual, const MaybeTensor& loraA, const MaybeTensor& loraB,
                            const std::vector<int64_t>& loraRows, double loraScale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor x = input.contiguous();
    const bool isActivated = activation != 0 || gated;
    // What the activation sees is kept: computing it again would be the product again.
    at::Tensor before, y;
    if (isActivated) {
      TORCH_CHECK(!residual, "a product with an activation has no residual in training");
      before = layerProduct(x, weight, bias, norm, normWeight, normBias, eps, 0, false, std::nullopt, std::nullopt);
      y = activateRows(before, activation, gated);
    } else {
      y = layerProduct(x, weight, bias, norm, normWeight, normBias, eps, 0, false, residual, std::nullopt);
    }
    const auto orNone = [](const MaybeTensor& tensor) { return tensor.value_or(at::Tensor()); };
    context->save_for_backward({x, weight, orNone(bias), orNone(normWeight), orNone(normBias), before, orNone(loraA), orNone(loraB)});
    context->saved_data["norm"] = norm;
    context->saved_data["eps"] = eps;
    context->saved_data["activation"] = activation;
    context->saved_data["gated"] = gated;
    context->saved_data["hasResidual"] = residual.has_value();
    context->saved_data["loraRows"] = loraRows;
    context->saved_data["loraScale"] = loraScale;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor& dy = gradients[0];
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &bias = saved[2], &before = saved[5], &loraA = saved[6];
    const auto maybe = [](const at::Tensor& tensor) { return tensor.defined() ? MaybeTensor(tensor) : std::nullopt; };
    const MaybeTensor normWeight = maybe(saved[3]), normBias = maybe(saved[4]);
    const int64_t norm = context->saved_data["norm"].toInt(), activation = context->saved_data["activation"].toInt();
    const double eps = context->saved_data["eps"].toDouble();
    const bool gated = context->saved_data["gated"].toBool();
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor product = before.defined() ? activationBackward(before, dy, activation, gated) : dy.contiguous();
    at::Tensor dx, dWeight, dBias, dNormWeight, dNormBias, dLoraA, dLoraB;
    const auto trains = [](const MaybeTensor& tensor) { return tensor && tensor->requires_grad(); };
    const bool trainsLora = trains(maybe(loraA));
    if (context->needs_input_grad(1) || trainsLora) {
      const at::Tensor normed = norm == 0 ? x : normRows(x, norm, normWeight, normBias, eps); // less than keeping it costs in memory
      if (context->needs_input_grad(1)) dWeight = weightGradient(weight, product, normed);
      if (trainsLora) {
        std::tie(dLoraA, dLoraB) = loraGradients(product, normed, loraA, saved[7], context->saved_data["loraRows"].toIntVector(),
                                                 context->saved_data["loraScale"].toDouble());
      }
    }
    if (trains(maybe(bias))) dBias = product.sum(0);
    if (context->needs_input_grad(0) || trains(normWeight) || trains(normBias)) {
      dx = product.mm(weight);
      if (norm != 0) std::tie(dx, dNormWeight, dNormBias) = normBackward(x, dx, norm, normWeight, normBias, eps);
    }
    return {dx, dWeight, dBias, {}, dNormWeight, dNormBias, {}, {}, {}, context->saved_data["hasResidual"].toBool() ? dy : at::Tensor(),
            dLoraA, dLoraB, {}, {}};
  }
};

struct NormRows : torch::autograd::Function<NormRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& input, int64_t kind, const MaybeTensor& weight,
                            const MaybeTensor& bias, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor x = input.contiguous();
    context->save_for_backward({x, weight.value_or(at::Tensor()), bias.value_or(at::Tensor())});
    context->saved_data["kind"] = kind;
    context->saved_data["eps"] = eps;
    return normRows(x, kind, weight, bias, eps);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto maybe = [](const at::Tensor& tensor) { return tensor.defined() ? MaybeTensor(tensor) : std::nullopt; };
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto [dx, dWeight, dBias] = normBackward(saved[0], gradients[0], context->saved_data["kind"].toInt(), maybe(saved[1]),
                                                   maybe(saved[2]), context->saved_data["eps"].toDouble());
    return {dx, {}, dWeight, dBias, {}};
  }
};

static bool isTracked(std::initializer_list<const MaybeTensor> inputs) {
  if (!at::GradMode::is_enabled()) return false;
  return std::any_of(inputs.begin(), inputs.end(), [](const MaybeTensor& tensor) { return tensor && tensor->requires_grad(); });
}

static at::Tensor normRowsAutograd(const at::Tensor& x, int64_t kind, const MaybeTensor& weight, const MaybeTensor& bias, double eps) {
  if (isTracked({x, weight, bias})) return NormRows::apply(x, kind, weight, bias, eps);
  const at::AutoDispatchBelowADInplaceOrView below;
  return normRows(x, kind, weight, bias, eps);
}

static at::Tensor layerProductAutograd(const at::Tensor& x, const at::Tensor& weight, const MaybeTensor& bias, int64_t norm,
                                       const MaybeTensor& normWeight, const MaybeTensor& normBias, double eps, int64_t activation,
                                       bool gated, const MaybeTensor& residual, const MaybeTensor& scales, const MaybeTensor& loraA,
                                       const MaybeTensor& loraB, at::IntArrayRef loraRows, double loraScale) {
  if (!isTracked({x, weight, bias, normWeight, normBias, residual, loraA, loraB})) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return layerProduct(x, weight, bias, norm, normWeight, normBias, eps, activation, gated, residual, scales);
  }
  TORCH_CHECK(!scales, "a product with int8 weights has no gradient");
  return LayerProduct::apply(x, weight, bias, norm, normWeight, normBias, eps, activation, gated, residual, loraA, loraB,
                             loraRows.vec(), loraScale);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) { library.def("add_product_(Tensor(a!) sum, Tensor a, Tensor b) -> ()"); }
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("add_product_", TORCH_FN(tschat::addProduct)); }
TORCH_LIBRARY_IMPL(tschat, Autograd, library) {
  library.impl("add_product_", torch::autograd::autogradNotImplementedFallback());
  library.impl("layer_product", TORCH_FN(tschat::layerProductAutograd));
  library.impl("norm_rows", TORCH_FN(tschat::normRowsAutograd));
}
