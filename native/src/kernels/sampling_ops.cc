// tschat::sample: one token a row from its logits, and the token's log-probability, without gradient.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "kernels.h"

namespace tschat {

static void checkNumbers(const at::Tensor& tensor, at::ScalarType type, at::IntArrayRef shape, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == type && tensor.is_contiguous() && tensor.sizes() == shape, name, ": expected a contiguous ", type,
              shape, ", got ", tensor.scalar_type(), tensor.sizes());
}

static void checkSettings(const double* uniforms, const double* settings, int64_t rows) {
  for (int64_t i = 0; i < rows; i++, settings += 3) {
    const double temperature = settings[0], topK = settings[1], topP = settings[2];
    TORCH_CHECK(uniforms[i] >= 0 && uniforms[i] < 1, "row ", i, ": expected a uniform number in [0, 1), got ", uniforms[i]);
    TORCH_CHECK(temperature >= 0 && temperature < INFINITY, "row ", i, ": expected a temperature of at least 0, got ", temperature);
    TORCH_CHECK(topK >= 0 && topK == std::floor(topK), "row ", i, ": expected a whole topK of at least 0, got ", topK);
    TORCH_CHECK(topP > 0 && topP <= 1, "row ", i, ": expected a topP in (0, 1], got ", topP);
  }
}

/** Where the exclusions of each row begin, and the end; excluded [n, 2], rows ascending. */
static std::vector<int64_t> firstExclusions(const int64_t* excluded, int64_t count, int64_t rows, int64_t vocab) {
  std::vector<int64_t> first(rows + 1, count);
  int64_t next = 0;
  for (int64_t i = 0; i < count; i++) {
    const int64_t row = excluded[2 * i], token = excluded[2 * i + 1];
    TORCH_CHECK(row >= next - 1 && row >= 0 && row < rows, "excluded: expected ascending rows below ", rows, ", got ", row, " at ", i);
    TORCH_CHECK(token >= 0 && token < vocab, "excluded: expected a token below ", vocab, ", got ", token, " in row ", row);
    for (; next <= row; next++) first[next] = i;
  }
  return first;
}

static std::tuple<at::Tensor, at::Tensor> sample(const at::Tensor& input, const at::Tensor& uniforms, const at::Tensor& settings,
                                                 const std::optional<at::Tensor>& excluded) {
  TORCH_CHECK(input.scalar_type() == at::kFloat || input.scalar_type() == at::kBFloat16, "logits: expected float32 or bfloat16, got ",
              input.scalar_type());
  TORCH_CHECK(input.dim() == 2 && input.size(1) > 0, "logits: expected [rows, vocab], got ", input.sizes());
  const at::Tensor logits = input.contiguous();
  const int64_t rows = logits.size(0), vocab = logits.size(1), exclusions = excluded ? excluded->size(0) : 0;
  checkNumbers(uniforms, at::kDouble, {rows}, "uniforms");
  checkNumbers(settings, at::kDouble, {rows, 3}, "settings");
  if (excluded) checkNumbers(*excluded, at::kLong, {exclusions, 2}, "excluded");
  SampleArgs args = {};
  args.logits = logits.const_data_ptr();
  args.uniforms = uniforms.const_data_ptr<double>();
  args.settings = settings.const_data_ptr<double>();
  args.excluded = excluded ? excluded->const_data_ptr<int64_t>() : nullptr;
  args.vocab = vocab;
  checkSettings(args.uniforms, args.settings, rows);
  const std::vector<int64_t> first = firstExclusions(args.excluded, exclusions, rows, vocab);
  args.firstExcluded = first.data();
  at::Tensor tokens = at::empty({rows}, at::kLong), logprobs = at::empty({rows}, at::kFloat);
  args.tokens = tokens.mutable_data_ptr<int64_t>();
  args.logprobs = logprobs.mutable_data_ptr<float>();
  const Kernels& kernel = logits.scalar_type() == at::kFloat ? kernels().float32 : kernels().bfloat16;
  at::parallel_for(0, rows, 1, [&](int64_t from, int64_t to) { kernel.sample(args, from, to); });
  for (int64_t i = 0; i < rows; i++) {
    TORCH_CHECK(args.tokens[i] != kNotANumber, "no token can be drawn in row ", i, ": a logit is NaN or Infinity");
    TORCH_CHECK(args.tokens[i] != kNothingToDraw, "no token can be drawn in row ", i, ": all logits are -Infinity or excluded");
  }
  return {tokens, logprobs};
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def("sample(Tensor logits, Tensor uniforms, Tensor settings, Tensor? excluded=None) -> (Tensor tokens, Tensor logprobs)");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("sample", TORCH_FN(tschat::sample)); }
// Without this a gradient would silently be missing.
TORCH_LIBRARY_IMPL(tschat, Autograd, library) { library.impl("sample", torch::autograd::autogradNotImplementedFallback()); }
