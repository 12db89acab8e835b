// tschat::norm_heads: norms of queries and keys, head by head, before they are rotated (arXiv:2010.04245), with gradient.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops.h"

namespace tschat {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** Tokens that a thread takes at least. */
static constexpr int64_t kTokensPerTask = 8;

/** Runs of heads that share their weights: all queries, all keys, or every head by itself. */
struct HeadRuns {
  HeadRuns(const at::Tensor& projected, const at::Tensor& queryWeight, const at::Tensor& keyWeight, int64_t heads, int64_t kvHeads)
      : heads(heads), kvHeads(kvHeads), width(projected.size(1)), dim(width / (heads + 2 * kvHeads)) {
    TORCH_CHECK(heads > 0 && kvHeads > 0 && projected.dim() == 2 && width % (heads + 2 * kvHeads) == 0 && width > 0,
                "expected [tokens, (heads + 2 kvHeads) * head size] with ", heads, " and ", kvHeads, " heads, got ", projected.sizes());
    isShared = queryWeight.numel() == dim && keyWeight.numel() == dim;
    query = dataOf(queryWeight, projected, isShared ? dim : heads * dim, "query norm");
    key = dataOf(keyWeight, projected, isShared ? dim : kvHeads * dim, "key norm");
    elementBytes = projected.element_size();
  }

  /** Calls f(first head, heads, first weight among all, its data) for every run. */
  template <typename F>
  void forEach(F f) const {
    const auto part = [&](int64_t first, int64_t count, int64_t weightFrom, const void* weights) {
      if (isShared) return f(first, count, weightFrom, weights);
      for (int64_t h = 0; h < count; h++)
        f(first + h, int64_t{1}, weightFrom + h * dim, static_cast<const char*>(weights) + h * dim * elementBytes);
    };
    part(0, heads, 0, query);
    part(heads, kvHeads, queryWeights(), key);
  }
  int64_t queryWeights() const { return isShared ? dim : heads * dim; }
  int64_t keyWeights() const { return isShared ? dim : kvHeads * dim; }

  int64_t heads, kvHeads, width, dim, elementBytes;
  bool isShared;
  const void *query, *key;
};

static at::Tensor normHeads(const at::Tensor& projected, const at::Tensor& queryWeight, const at::Tensor& keyWeight, int64_t heads,
                            int64_t kvHeads, int64_t kind, double eps) {
  TORCH_CHECK(kind >= 1 && kind <= 3, "norm: expected 1 (rms), 2 (layer) or 3 (rms-plus-one), got ", kind);
  at::Tensor y = projected.clone(at::MemoryFormat::Contiguous);
  const HeadRuns runs(projected, queryWeight, keyWeight, heads, kvHeads);
  const Kernels& kernel = kernelsFor(y);
  char* data = static_cast<char*>(y.mutable_data_ptr());
  at::parallel_for(0, y.size(0), kTokensPerTask, [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; t++) {
      runs.forEach([&](int64_t first, int64_t count, int64_t, const void* weights) {
        char* x = data + (t * runs.width + first * runs.dim) * runs.elementBytes;
        kernel.norm({x, weights, nullptr, x, runs.dim, static_cast<float>(eps), static_cast<Norm>(kind)}, 0, count);
      });
    }
  });
  return y;
}

struct NormHeads : torch::autograd::Function<NormHeads> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projected, const at::Tensor& queryWeight,
                            const at::Tensor& keyWeight, int64_t heads, int64_t kvHeads, int64_t kind, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor x = projected.contiguous();
    context->save_for_backward({x, queryWeight, keyWeight});
    context->saved_data["heads"] = heads;
    context->saved_data["kvHeads"] = kvHeads;
    context->saved_data["kind"] = kind;
    context->saved_data["eps"] = eps;
    return normHeads(x, queryWeight, keyWeight, heads, kvHeads, kind, eps);
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &queryWeight = saved[1], &keyWeight = saved[2];
    const at::AutoDispatchBelowADInplaceOrView below;
    const HeadRuns runs(x, queryWeight, keyWeight, context->saved_data["heads"].toInt(), context->saved_data["kvHeads"].toInt());
    const auto kind = static_cast<Norm>(context->saved_data["kind"].toInt());
    const auto eps = static_cast<float>(context->saved_data["eps"].toDouble());
    at::Tensor dx = gradients[0].clone(at::MemoryFormat::Contiguous); // the values' part stays
    const at::Tensor dy = gradients[0].contiguous();
    // Each thread sums over its own tokens; the threads' sums are added in their order, so that a run repeats bit for bit.
    const int64_t numWeights = runs.queryWeights() + runs.keyWeights();
    at::Tensor sums = at::zeros({at::get_num_threads(), numWeights}, x.options().dtype(at::kFloat));
    const Kernels& kernel = kernelsFor(x);
    const char *xs = static_cast<const char*>(x.const_data_ptr()), *dys = static_cast<const char*>(dy.const_data_ptr());
    char* dxs = static_cast<char*>(dx.mutable_data_ptr());
    float* all = sums.mutable_data_ptr<float>();
    at::parallel_for(0, x.size(0), kTokensPerTask, [&](int64_t from, int64_t to) {
      float* own = all + at::get_thread_num() * numWeights;
      for (int64_t t = from; t < to; t++) {
        runs.forEach([&](int64_t first, int64_t count, int64_t weightFrom, const void* weights) {
          const int64_t at = (t * runs.width + first * runs.dim) * runs.elementBytes;
          kernel.normBackward({xs + at, weights, dys + at, dxs + at, runs.dim, eps, kind}, 0, count, own + weightFrom, nullptr);
        });
      }
    });
    const at::Tensor joined = sums.sum(0).to(x.scalar_type());
    return {dx, joined.slice(0, 0, runs.queryWeights()), joined.slice(0, runs.queryWeights()), {}, {}, {}, {}};
  }
};

static at::Tensor normHeadsAutograd(const at::Tensor& projected, const at::Tensor& queryWeight, const at::Tensor& keyWeight, int64_t heads,
                                    int64_t kvHeads, int64_t kind, double eps) {
  const bool isTracked = projected.requires_grad() || queryWeight.requires_grad() || keyWeight.requires_grad();
  if (at::GradMode::is_enabled() && isTracked) return NormHeads::apply(projected, queryWeight, keyWeight, heads, kvHeads, kind, eps);
  const at::AutoDispatchBelowADInplaceOrView below;
  return normHeads(projected, queryWeight, keyWeight, heads, kvHeads, kind, eps);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def(
      "norm_heads(Tensor projected, Tensor query_weight, Tensor key_weight, int heads, int kv_heads, int norm, float eps) -> Tensor");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("norm_heads", TORCH_FN(tschat::normHeads)); }
TORCH_LIBRARY_IMPL(tschat, Autograd, library) { library.impl("norm_heads", TORCH_FN(tschat::normHeadsAutograd)); }
