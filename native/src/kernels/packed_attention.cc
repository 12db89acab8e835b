// tschat::packed_attention: rotation and causal attention of packed sequences, with gradient. Forward is the kernel that prefill and
// decoding run on the same layout of keys and values, so a token has the same bits in all three.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "ops.h"

namespace tschat {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/** Where tokens stand: sequence i is tokens [offsets[i], offsets[i + 1]) and has pages of its own, one after another. */
struct Packing {
  explicit Packing(at::IntArrayRef offsets) : total(offsets.back()) {
    const int64_t count = static_cast<int64_t>(offsets.size()) - 1;
    int64_t longest = 0;
    for (int64_t i = 0; i < count; i++) {
      TORCH_CHECK(offsets[i] <= offsets[i + 1], "offsets must not fall, got ", offsets);
      longest = std::max(longest, offsets[i + 1] - offsets[i]);
    }
    const auto ints = at::TensorOptions().dtype(at::kLong);
    positions = at::empty({total}, ints), places = at::empty({total}, ints), sequences = at::empty({total}, ints);
    const int64_t width = std::max<int64_t>(1, (longest + kPageTokens - 1) / kPageTokens);
    pages = at::zeros({count, width}, at::TensorOptions().dtype(at::kInt));
    auto *position = positions.data_ptr<int64_t>(), *place = places.data_ptr<int64_t>(), *sequence = sequences.data_ptr<int64_t>();
    auto* page = pages.data_ptr<int32_t>();
    for (int64_t i = 0; i < count; i++) {
      const int64_t length = offsets[i + 1] - offsets[i], first = numPages;
      for (int64_t t = 0; t < length; t++, position++, place++, sequence++)
        *position = t, *place = first * kPageTokens + t, *sequence = i;
      for (int64_t t = 0; t < length; t += kPageTokens) page[i * width + t / kPageTokens] = static_cast<int32_t>(numPages++);
    }
  }
  int64_t total, numPages = 0;
  at::Tensor positions, places, sequences, pages;
};

struct Heads {
  int64_t queries, keys, dim;
  int64_t padded() const { return (dim + kHeadMultiple - 1) / kHeadMultiple * kHeadMultiple; }
};

static Heads headsOf(const at::Tensor& projected, int64_t heads, int64_t kvHeads, at::IntArrayRef offsets) {
  TORCH_CHECK(heads > 0 && kvHeads > 0 && heads % kvHeads == 0 && projected.dim() == 2 && projected.size(1) % (heads + 2 * kvHeads) == 0,
              "expected [tokens, (heads + 2 kvHeads) * head size] with ", heads, " and ", kvHeads, " heads, got ", projected.sizes());
  TORCH_CHECK(offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == projected.size(0), "offsets: expected 0 to ",
              projected.size(0), ", got ", offsets);
  return {heads, kvHeads, projected.size(1) / (heads + 2 * kvHeads)};
}

/** Rotates `rotated` in place; returns what queries have attended to, and the log of the sum of e^score, [tokens, heads]. */
static std::tuple<at::Tensor, at::Tensor> attendPacked(const at::Tensor& rotated, at::IntArrayRef offsets, const MaybeTensor& cos,
                                                       const MaybeTensor& signedSin, const Heads& heads, double scale) {
  const Packing packing(offsets);
  const std::array<int64_t, 4> shape = {packing.numPages, heads.keys, kPageTokens, heads.padded()};
  // The padding of a head is multiplied by zeros and must be finite.
  const bool isPadded = heads.padded() != heads.dim;
  const auto pool = [&] { return isPadded ? at::zeros(shape, rotated.options()) : at::empty(shape, rotated.options()); };
  const at::Tensor keys = pool(), values = pool();
  appendCache(rotated, keys, values, packing.positions, packing.places, cos, signedSin, heads.queries);
  at::Tensor logSums = at::empty({packing.total, heads.queries}, rotated.options().dtype(at::kFloat));
  const at::Tensor y = promptAttentionWithSums(rotated, keys, values, packing.pages, packing.sequences, packing.positions, heads.queries,
                                               scale, 0, 0, std::nullopt, logSums.mutable_data_ptr<float>());
  return {y, logSums};
}

static at::Tensor packedAttention(const at::Tensor& projected, at::IntArrayRef offsets, const MaybeTensor& cos,
                                  const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale) {
  const Heads shape = headsOf(projected, heads, kvHeads, offsets);
  return std::get<0>(attendPacked(projected.clone(at::MemoryFormat::Contiguous), offsets, cos, signedSin, shape, scale));
}

/** Sums over the queries that share a key head: [1, heads, tokens, dim] -> [tokens, kvHeads, dim]. */
static at::Tensor sumGroups(const at::Tensor& gradient, const Heads& heads) {
  return gradient.squeeze(0).view({heads.keys, heads.queries / heads.keys, -1, heads.dim}).sum(1).transpose(0, 1);
}

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projected, std::vector<int64_t> offsets, const MaybeTensor& cos,
                            const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor rotated = projected.clone(at::MemoryFormat::Contiguous);
    const auto [y, logSums] = attendPacked(rotated, offsets, cos, signedSin, headsOf(projected, heads, kvHeads, offsets), scale);
    context->save_for_backward({rotated, y, logSums, cos.value_or(at::Tensor()), signedSin.value_or(at::Tensor())});
    context->saved_data["offsets"] = offsets;
    context->saved_data["heads"] = heads;
    context->saved_data["kvHeads"] = kvHeads;
    context->saved_data["scale"] = scale;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rotated = saved[0], &y = saved[1], &logSums = saved[2], &cos = saved[3], &signedSin = saved[4];
    const std::vector<int64_t> offsets = context->saved_data["offsets"].toIntVector();
    const double scale = context->saved_data["scale"].toDouble();
    const at::AutoDispatchBelowADInplaceOrView below;
    const Heads heads = headsOf(rotated, context->saved_data["heads"].toInt(), context->saved_data["kvHeads"].toInt(), offsets);
    const int64_t total = rotated.size(0);
    const auto split = [&](const at::Tensor& x) {
      return x.view({total, heads.queries + 2 * heads.keys, heads.dim}).split_with_sizes({heads.queries, heads.keys, heads.keys}, 1);
    };
    const auto parts = split(rotated);
    at::Tensor dProjected = at::empty_like(rotated);
    const auto dParts = split(dProjected);
    const at::Tensor dy = gradients[0].contiguous().view({total, heads.queries, heads.dim}), out = y.view_as(dy);
    for (size_t i = 0; i + 1 < offsets.size(); i++) {
      const int64_t from = offsets[i], length = offsets[i + 1] - from;
      if (length == 0) continue;
      const auto sequence = [&](const at::Tensor& x) { return x.narrow(0, from, length).transpose(0, 1).unsqueeze(0); };
      // libtorch's kernel takes equal numbers of heads only.
      const auto expanded = [&](const at::Tensor& x) { return sequence(x).repeat_interleave(heads.queries / heads.keys, 1); };
      const auto [dq, dk, dv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          sequence(dy), sequence(parts[0]), expanded(parts[1]), expanded(parts[2]), sequence(out),
          logSums.narrow(0, from, length).transpose(0, 1).unsqueeze(0), 0.0, true, std::nullopt, scale);
      dParts[0].narrow(0, from, length).copy_(dq.squeeze(0).transpose(0, 1));
      dParts[1].narrow(0, from, length).copy_(sumGroups(dk, heads));
      dParts[2].narrow(0, from, length).copy_(sumGroups(dv, heads));
    }
    if (cos.defined()) rotateBack(dProjected, Packing(offsets).positions, cos, signedSin, heads.queries, heads.keys);
    return {dProjected, {}, {}, {}, {}, {}, {}};
  }
};

static at::Tensor packedAttentionAutograd(const at::Tensor& projected, at::IntArrayRef offsets, const MaybeTensor& cos,
                                          const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale) {
  if (at::GradMode::is_enabled() && projected.requires_grad())
    return PackedAttention::apply(projected, offsets.vec(), cos, signedSin, heads, kvHeads, scale);
  const at::AutoDispatchBelowADInplaceOrView below;
  return packedAttention(projected, offsets, cos, signedSin, heads, kvHeads, scale);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def(
      "packed_attention(Tensor projected, int[] offsets, Tensor? cos, Tensor? signed_sin, int heads, int kv_heads, float scale) -> Tensor");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("packed_attention", TORCH_FN(tschat::packedAttention)); }
TORCH_LIBRARY_IMPL(tschat, Autograd, library) { library.impl("packed_attention", TORCH_FN(tschat::packedAttentionAutograd)); }
