// Products of few rows with a bfloat16 weight, the ones that decoding is made of. oneDNN packs the weight anew in every call; here it is
// streamed once, as it lies. On 2 Zen 4 cores, SmolLM2's layers: 2 to 4.7 times as fast at 1 row, 1.4 to 1.8 at 4, slower from 16 on.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tschat {

#if defined(__x86_64__)

// Only the functions between push and pop use these instructions, and they run only where the processor has them.
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")

/** `rows` rows of x times `outputs` rows of the weight: float32 accumulators in registers, 32 elements at a time. */
template <int rows, int outputs>
static void block(const at::BFloat16* x, const at::BFloat16* weight, const float* bias, at::BFloat16* y, int64_t width, int64_t total) {
  __m512 sum[rows][outputs];
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < outputs; j++) sum[i][j] = _mm512_setzero_ps();
  for (int64_t k = 0; k < width; k += 32) {
    // The last piece may be short; the mask makes the rest zero and reads nothing behind the row.
    const __mmask32 mask = width - k >= 32 ? 0xffffffffu : (1u << (width - k)) - 1;
    __m512bh w[outputs];
    for (int j = 0; j < outputs; j++) w[j] = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, weight + j * width + k));
    for (int i = 0; i < rows; i++) {
      const __m512bh value = reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, x + i * width + k));
      for (int j = 0; j < outputs; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], w[j], value);
    }
  }
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < outputs; j++) y[i * total + j] = _mm512_reduce_add_ps(sum[i][j]) + (bias ? bias[j] : 0.0f);
}

/** All rows of x for `outputs` rows of the weight, which stay in the cache between the blocks. */
template <int outputs>
static void column(const at::BFloat16* x, const at::BFloat16* weight, const float* bias, at::BFloat16* y, int64_t rows, int64_t width,
                   int64_t total) {
  int64_t i = 0;
  const auto next = [&](int count) {
    i += count;
    x += count * width;
    y += count * total;
  };
  while (rows - i >= 8) { block<8, outputs>(x, weight, bias, y, width, total); next(8); }
  if (rows - i >= 4) { block<4, outputs>(x, weight, bias, y, width, total); next(4); }
  if (rows - i >= 2) { block<2, outputs>(x, weight, bias, y, width, total); next(2); }
  if (rows - i >= 1) block<1, outputs>(x, weight, bias, y, width, total);
}

#pragma GCC pop_options

static bool hasKernel() {
  static const bool supported =
      __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  return supported;
}

/** Beyond these rows oneDNN's blocked product wins. */
static constexpr int64_t kMaxRows = 8;

static bool isSuited(const at::Tensor& x, const at::Tensor& weight) {
  return hasKernel() && x.dim() == 2 && weight.dim() == 2 && x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16 &&
         x.size(1) == weight.size(1) && x.size(0) <= kMaxRows && weight.is_contiguous();
}

static void run(const at::Tensor& x, const at::Tensor& weight, const float* bias, at::Tensor& y) {
  constexpr int kOutputs = 3;  // 8 rows by 3 outputs: 24 of the 32 registers accumulate
  const int64_t rows = x.size(0), width = x.size(1), total = weight.size(0), blocks = (total + kOutputs - 1) / kOutputs;
  const auto *xs = x.const_data_ptr<at::BFloat16>(), *ws = weight.const_data_ptr<at::BFloat16>();
  auto* ys = y.mutable_data_ptr<at::BFloat16>();
  at::parallel_for(0, blocks, 16, [&](int64_t from, int64_t to) {
    for (int64_t b = from; b < to; b++) {
      const int64_t j = b * kOutputs;
      const float* offset = bias ? bias + j : nullptr;
      switch (std::min<int64_t>(kOutputs, total - j)) {
        case 3: column<3>(xs, ws + j * width, offset, ys + j, rows, width, total); break;
        case 2: column<2>(xs, ws + j * width, offset, ys + j, rows, width, total); break;
        default: column<1>(xs, ws + j * width, offset, ys + j, rows, width, total);
      }
    }
  });
}

#else
static bool isSuited(const at::Tensor&, const at::Tensor&) { return false; }
static void run(const at::Tensor&, const at::Tensor&, const float*, at::Tensor&) {}
#endif

/**
 * x [rows, in] @ weight [out, in]^T + bias [out]; float32 sums, rounded once. Elsewhere than in bfloat16 and for many rows it is
 * aten::linear.
 */
static at::Tensor linearSmall(const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  if (!isSuited(x, weight)) return at::linear(x, weight, bias);
  const at::Tensor rows = x.contiguous();
  at::Tensor y = at::empty({rows.size(0), weight.size(0)}, rows.options());
  const at::Tensor offset = bias ? bias->to(at::kFloat).contiguous() : at::Tensor();
  run(rows, weight, bias ? offset.const_data_ptr<float>() : nullptr, y);
  return y;
}

}  // namespace tschat

TORCH_LIBRARY(tschat, library) { library.def("linear_small(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor"); }
TORCH_LIBRARY_IMPL(tschat, CPU, library) { library.impl("linear_small", TORCH_FN(tschat::linearSmall)); }
// Without this a gradient would silently be missing; decoding has none.
TORCH_LIBRARY_IMPL(tschat, Autograd, library) { library.impl("linear_small", torch::autograd::autogradNotImplementedFallback()); }
