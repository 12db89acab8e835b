// tschat::packed_attention: rotation and causal attention of packed sequences, with gradient. Forward is the kernel that prefill and
// decoding run on the same layout of keys and values, so a token has the same bits in all three.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <atomic>
#include <numeric>

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

/** What packed attention takes besides its tensors. */
struct Setting {
  int64_t heads, kvHeads;
  double scale;
  int64_t window;
  double softcap;

  int64_t headDim(const at::Tensor& projected) const { return projected.size(1) / (heads + 2 * kvHeads); }
};

static int64_t paddedDim(int64_t dim) { return (dim + kHeadMultiple - 1) / kHeadMultiple * kHeadMultiple; }

static void checkPacked(const at::Tensor& projected, at::IntArrayRef offsets, const Setting& setting) {
  const int64_t all = setting.heads + 2 * setting.kvHeads;
  TORCH_CHECK(setting.heads > 0 && setting.kvHeads > 0 && setting.heads % setting.kvHeads == 0 && projected.dim() == 2 &&
                  projected.size(1) % all == 0,
              "expected [tokens, (heads + 2 kvHeads) * head size] with ", setting.heads, " and ", setting.kvHeads, " heads, got ",
              projected.sizes());
  TORCH_CHECK(offsets.size() >= 2 && offsets.front() == 0 && offsets.back() == projected.size(0), "offsets: expected 0 to ",
              projected.size(0), ", got ", offsets);
}

/** Rotates `rotated` in place; returns what queries have attended to, and the log of the sum of e^score, [tokens, heads]. */
static std::tuple<at::Tensor, at::Tensor> attendPacked(const at::Tensor& rotated, at::IntArrayRef offsets, const MaybeTensor& cos,
                                                       const MaybeTensor& signedSin, const Setting& setting, const MaybeTensor& slopes) {
  checkPacked(rotated, offsets, setting);
  const Packing packing(offsets);
  const int64_t dim = setting.headDim(rotated);
  const std::array<int64_t, 4> shape = {packing.numPages, setting.kvHeads, kPageTokens, paddedDim(dim)};
  // The padding of a head is multiplied by zeros and must be finite.
  const bool isPadded = paddedDim(dim) != dim;
  const auto pool = [&] { return isPadded ? at::zeros(shape, rotated.options()) : at::empty(shape, rotated.options()); };
  const at::Tensor keys = pool(), values = pool();
  appendCache(rotated, keys, values, packing.positions, packing.places, cos, signedSin, setting.heads);
  at::Tensor logSums = at::empty({packing.total, setting.heads}, rotated.options().dtype(at::kFloat));
  const at::Tensor y = promptAttentionWithSums(rotated, keys, values, packing.pages, packing.sequences, packing.positions, setting.heads,
                                               setting.scale, setting.window, setting.softcap, slopes, logSums.mutable_data_ptr<float>());
  return {y, logSums};
}

static at::Tensor packedAttention(const at::Tensor& projected, at::IntArrayRef offsets, const MaybeTensor& cos,
                                  const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale, int64_t window,
                                  double softcap, const MaybeTensor& slopes) {
  const Setting setting = {heads, kvHeads, scale, window, softcap};
  return std::get<0>(attendPacked(projected.clone(at::MemoryFormat::Contiguous), offsets, cos, signedSin, setting, slopes));
}

/** Runs `kernel.attendBackward` for every head of every sequence; the longest sequences first, so that the threads end together. */
static void attendBackward(const Kernels& kernel, const AttentionBackwardArgs& args, at::IntArrayRef offsets) {
  std::vector<int64_t> order(offsets.size() - 1);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return offsets[a + 1] - offsets[a] > offsets[b + 1] - offsets[b];
  });
  const int64_t tasks = static_cast<int64_t>(order.size()) * args.heads;
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    for (int64_t task; (task = next++) < tasks;) kernel.attendBackward(args, order[task / args.heads], task % args.heads);
  });
  for (int64_t i : order) {
    const int64_t tokens = offsets[i + 1] - offsets[i];
    at::parallel_for(0, tokens, 16, [&](int64_t from, int64_t to) { kernel.joinAttentionBackward(args, i, from, to); });
  }
}

struct PackedAttention : torch::autograd::Function<PackedAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& projected, std::vector<int64_t> offsets, const MaybeTensor& cos,
                            const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale, int64_t window, double softcap,
                            const MaybeTensor& slopes) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor rotated = projected.clone(at::MemoryFormat::Contiguous);
    const auto [y, logSums] = attendPacked(rotated, offsets, cos, signedSin, {heads, kvHeads, scale, window, softcap}, slopes);
    const auto orNone = [](const MaybeTensor& tensor) { return tensor.value_or(at::Tensor()); };
    context->save_for_backward({rotated, y, logSums, orNone(cos), orNone(signedSin), orNone(slopes)});
    context->saved_data["offsets"] = offsets;
    context->saved_data["heads"] = heads;
    context->saved_data["kvHeads"] = kvHeads;
    context->saved_data["scale"] = scale;
    context->saved_data["window"] = window;
    context->saved_data["softcap"] = softcap;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &rotated = saved[0], &y = saved[1], &logSums = saved[2], &cos = saved[3], &slopes = saved[5];
    const std::vector<int64_t> offsets = context->saved_data["offsets"].toIntVector();
    const at::AutoDispatchBelowADInplaceOrView below;
    const at::Tensor dy = gradients[0].contiguous(), signedSin = saved[4].defined() ? saved[4].neg() : saved[4];
    at::Tensor dProjected = at::empty_like(rotated);
    AttentionBackwardArgs args = {};
    if (cos.defined()) args.rotary = {cos.const_data_ptr(), signedSin.const_data_ptr(), cos.size(1)};
    args.projected = rotated.const_data_ptr();
    args.y = y.const_data_ptr();
    args.dy = dy.const_data_ptr();
    args.logSums = logSums.const_data_ptr<float>();
    args.slopes = slopes.defined() ? slopes.const_data_ptr<float>() : nullptr;
    args.dProjected = dProjected.mutable_data_ptr();
    args.offsets = offsets.data();
    args.heads = context->saved_data["heads"].toInt();
    args.kvHeads = context->saved_data["kvHeads"].toInt();
    args.headDim = rotated.size(1) / (args.heads + 2 * args.kvHeads);
    args.window = context->saved_data["window"].toInt();
    args.scale = static_cast<float>(context->saved_data["scale"].toDouble());
    args.softcap = static_cast<float>(context->saved_data["softcap"].toDouble());
    const at::Tensor partial = at::empty({2 * rotated.size(0) * args.heads * paddedDim(args.headDim)}, logSums.options());
    args.partial = partial.mutable_data_ptr<float>();
    attendBackward(kernelsFor(rotated), args, offsets);
    return {dProjected, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  }
};

static at::Tensor packedAttentionAutograd(const at::Tensor& projected, at::IntArrayRef offsets, const MaybeTensor& cos,
                                          const MaybeTensor& signedSin, int64_t heads, int64_t kvHeads, double scale, int64_t window,
                                          double softcap, const MaybeTensor& slopes) {
  if (at::GradMode::is_enabled() && projected.requires_grad())
    return PackedAttention::apply(projected, offsets.vec(), cos, signedSin, heads, kvHeads, scale, window, softcap, slopes);
  const at::AutoDispatchBelowADInplaceOrView below;
  return packedAttention(projected, offsets, cos, signedSin, heads, kvHeads, scale, window, softcap, slopes);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def(
      "packed_attention(Tensor projected, int[] offsets, Tensor? cos, Tensor? signed_sin, int heads, int kv_heads, float scale, "
      "int window=0, float softcap=0, Tensor? slopes=None) -> Tensor");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("packed_attention", TORCH_FN(tschat::packedAttention)); }
TORCH_LIBRARY_IMPL(tschat, Autograd, library) { library.impl("packed_attention", TORCH_FN(tschat::packedAttentionAutograd)); }
