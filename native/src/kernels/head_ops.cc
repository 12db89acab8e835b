// tschat::token_logprobs and token_logprobs_backward_: the two halves of a head's loss, which the caller joins chunk by chunk.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops.h"

namespace tschat {

static TokenLogprobsArgs argsOf(const at::Tensor& logits, const at::Tensor& targets, double temperature) {
  TORCH_CHECK(logits.dim() == 2 && logits.is_contiguous() && logits.size(1) > 0, "expected contiguous logits [rows, vocab], got ",
              logits.sizes());
  const int64_t rows = logits.size(0), vocab = logits.size(1);
  TORCH_CHECK(targets.scalar_type() == at::kLong && targets.is_contiguous() && targets.dim() == 1 && targets.size(0) == rows,
              "targets: expected int64 [", rows, "], got ", targets.scalar_type(), targets.sizes());
  TORCH_CHECK(temperature > 0 && temperature < INFINITY, "expected a positive temperature, got ", temperature);
  const auto* tokens = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < rows; i++)
    TORCH_CHECK(tokens[i] >= 0 && tokens[i] < vocab, "target ", i, ": expected a token below ", vocab, ", got ", tokens[i]);
  TokenLogprobsArgs args = {};
  args.logits = logits.const_data_ptr();
  args.targets = tokens;
  args.vocab = vocab;
  args.temperature = temperature;
  return args;
}

/** (logprobs, logSums, entropies) [rows] float32 each; no entropies unless asked for. */
static std::tuple<at::Tensor, at::Tensor, at::Tensor> tokenLogprobs(const at::Tensor& logits, const at::Tensor& targets, double temperature,
                                                                    bool entropies) {
  TokenLogprobsArgs args = argsOf(logits, targets, temperature);
  const auto make = [&](int64_t rows) { return at::empty({rows}, logits.options().dtype(at::kFloat)); };
  const at::Tensor logprobs = make(logits.size(0)), logSums = make(logits.size(0)), ofEach = make(entropies ? logits.size(0) : 0);
  args.logprobs = logprobs.mutable_data_ptr<float>();
  args.logSums = logSums.mutable_data_ptr<float>();
  args.entropies = entropies ? ofEach.mutable_data_ptr<float>() : nullptr;
  const Kernels& kernel = kernelsFor(logits);
  at::parallel_for(0, logits.size(0), 1, [&](int64_t from, int64_t to) { kernel.tokenLogprobs(args, from, to); });
  return {logprobs, logSums, ofEach};
}

/** The logits become their own gradient. */
static void tokenLogprobsBackward(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& logSums,
                                  const at::Tensor& gradient, double temperature) {
  TokenLogprobsArgs args = argsOf(logits, targets, temperature);
  const at::Tensor slopes = gradient.contiguous(); // often one number expanded
  for (const at::Tensor& tensor : {logSums, slopes})
    TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.is_contiguous() && tensor.numel() == logits.size(0),
                "expected float32 [", logits.size(0), "], got ", tensor.scalar_type(), tensor.sizes());
  args.logSums = logSums.data_ptr<float>();
  args.gradient = slopes.const_data_ptr<float>();
  const Kernels& kernel = kernelsFor(logits);
  at::parallel_for(0, logits.size(0), 1, [&](int64_t from, int64_t to) { kernel.tokenLogprobsBackward(args, from, to); });
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def("token_logprobs(Tensor logits, Tensor targets, float temperature, bool entropies) -> (Tensor, Tensor, Tensor)");
  library.def(
      "token_logprobs_backward_(Tensor(a!) logits, Tensor targets, Tensor log_sums, Tensor gradient, float temperature) -> ()");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) {
  library.impl("token_logprobs", TORCH_FN(tschat::tokenLogprobs));
  library.impl("token_logprobs_backward_", TORCH_FN(tschat::tokenLogprobsBackward));
}
// The caller brings the gradient.
TORCH_LIBRARY_IMPL(tschat, Autograd, library) {
  for (const char* name : {"token_logprobs", "token_logprobs_backward_"})
    library.impl(name, torch::autograd::autogradNotImplementedFallback());
}
