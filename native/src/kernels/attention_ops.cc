// tschat::decode_attention, append_cache and prompt_attention: attention over the paged key-value cache, without gradient.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "ops.h"

namespace tschat {

static void checkIndices(const at::Tensor& tensor, at::ScalarType type, at::IntArrayRef shape, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == type && tensor.is_contiguous() && tensor.sizes() == shape, name, ": expected a contiguous ", type,
              shape, ", got ", tensor.scalar_type(), tensor.sizes());
}

/** keys and values [pages, kvHeads, kPageTokens, padded head size], elements ordered as `Cache` says. */
static Cache cacheOf(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, int64_t heads) {
  TORCH_CHECK(projected.scalar_type() == at::kFloat || projected.scalar_type() == at::kBFloat16, "expected float32 or bfloat16, got ",
              projected.scalar_type());
  TORCH_CHECK(keys.dim() == 4 && keys.size(2) == kPageTokens && keys.sizes() == values.sizes(), "expected keys and values [pages, heads, ",
              kPageTokens, ", head size], got ", keys.sizes(), " and ", values.sizes());
  for (const at::Tensor& pool : {keys, values})
    TORCH_CHECK(pool.scalar_type() == projected.scalar_type() && pool.is_contiguous(), "the cache must be contiguous and of type ",
                projected.scalar_type());
  const int64_t kvHeads = keys.size(1), all = heads + 2 * kvHeads;
  TORCH_CHECK(heads > 0 && kvHeads > 0 && heads % kvHeads == 0 && projected.dim() == 2 && projected.is_contiguous() &&
                  projected.size(1) % all == 0,
              "expected contiguous [rows, (heads + 2 kvHeads) * head size] with ", heads, " and ", kvHeads, " heads, got ",
              projected.sizes());
  const int64_t headDim = projected.size(1) / all, padded = (headDim + kHeadMultiple - 1) / kHeadMultiple * kHeadMultiple;
  TORCH_CHECK(keys.size(3) == padded, "the cache is made for heads of ", keys.size(3), ", expected ", padded);
  return {keys.mutable_data_ptr(), values.mutable_data_ptr(), kvHeads, headDim, padded};
}

static Rotary rotaryOf(const at::Tensor& projected, const MaybeTensor& cos, const MaybeTensor& signedSin, int64_t headDim) {
  TORCH_CHECK(cos.has_value() == signedSin.has_value(), "rotary tables: expected both or neither");
  if (!cos) return {nullptr, nullptr, 0};
  for (const at::Tensor& table : {*cos, *signedSin})
    TORCH_CHECK(table.dim() == 2 && table.is_contiguous() && table.scalar_type() == projected.scalar_type() && table.size(1) <= headDim &&
                    table.size(1) % 2 == 0 && table.sizes() == cos->sizes(),
                "rotary tables: expected contiguous ", projected.scalar_type(), " [positions, dims], got ", table.scalar_type(),
                table.sizes());
  return {cos->const_data_ptr(), signedSin->const_data_ptr(), cos->size(1)};
}

/** The largest position must have a row in the tables and a page; the kernels read without asking. */
static int64_t largestPosition(const at::Tensor& positions, const Rotary& rotary, const MaybeTensor& cos, int64_t capacity) {
  const auto* p = positions.const_data_ptr<int64_t>();
  int64_t most = 0;
  for (int64_t i = 0; i < positions.numel(); i++) {
    TORCH_CHECK(p[i] >= 0, "a position is ", p[i]);
    most = std::max(most, p[i]);
  }
  TORCH_CHECK(most < capacity, "position ", most, " has no page: the rows hold ", capacity, " tokens");
  TORCH_CHECK(!rotary.cos || most < cos->size(0), "position ", most, " is not in the rotary tables of ", rotary.cos ? cos->size(0) : 0);
  return most;
}

void appendCache(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& positions,
                        const at::Tensor& places, const MaybeTensor& cos, const MaybeTensor& signedSin, int64_t heads) {
  const Cache cache = cacheOf(projected, keys, values, heads);
  const Rotary rotary = rotaryOf(projected, cos, signedSin, cache.headDim);
  const int64_t tokens = projected.size(0);
  checkIndices(positions, at::kLong, {tokens}, "positions");
  checkIndices(places, at::kLong, {tokens}, "places");
  largestPosition(positions, rotary, cos, INT64_MAX);
  const auto* at = places.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < tokens; i++)
    TORCH_CHECK(at[i] >= 0 && at[i] < keys.size(0) * kPageTokens, "place ", at[i], " is outside the cache of ", keys.size(0), " pages");
  const AppendArgs args = {cache, rotary, projected.mutable_data_ptr(), positions.const_data_ptr<int64_t>(), at, tokens, heads};
  const Kernels& kernel = kernelsFor(projected);
  at::parallel_for(0, tokens, 8, [&](int64_t from, int64_t to) { kernel.append(args, from, to); });
}

/** How scores are made, the same in both operators. */
struct Scores {
  double scale;
  int64_t window;
  double softcap;
  const MaybeTensor& slopes;
};

/** All but `rotary`, `sequences`, `chunks` and `partial`; `y` is made here. */
static AttentionArgs attentionArgs(const at::Tensor& projected, const Cache& cache, const at::Tensor& keys, const at::Tensor& pages,
                                   const at::Tensor& positions, int64_t heads, const Scores& scores, at::Tensor& y) {
  const int64_t rows = projected.size(0);
  TORCH_CHECK(pages.dim() == 2, "pages: expected [rows, pages], got ", pages.sizes());
  checkIndices(pages, at::kInt, pages.sizes(), "pages");
  checkIndices(positions, at::kLong, {rows}, "positions");
  const auto* table = pages.const_data_ptr<int32_t>();
  for (int64_t i = 0; i < pages.numel(); i++)
    TORCH_CHECK(table[i] >= 0 && table[i] < keys.size(0), "page ", table[i], " is outside the cache of ", keys.size(0));
  const MaybeTensor& slopes = scores.slopes;
  if (slopes)
    TORCH_CHECK(slopes->scalar_type() == at::kFloat && slopes->is_contiguous() && slopes->numel() == heads, "slopes: expected float32 [",
                heads, "], got ", slopes->scalar_type(), slopes->sizes());
  y = at::empty({rows, heads * cache.headDim}, projected.options());
  AttentionArgs args = {};
  args.cache = cache;
  args.projected = projected.const_data_ptr();
  args.pages = table;
  args.positions = positions.const_data_ptr<int64_t>();
  args.y = y.mutable_data_ptr();
  args.slopes = slopes ? slopes->const_data_ptr<float>() : nullptr;
  args.maxPages = pages.size(1);
  args.rows = rows;
  args.heads = heads;
  args.window = scores.window;
  args.scale = static_cast<float>(scores.scale);
  args.softcap = static_cast<float>(scores.softcap);
  return args;
}

static at::Tensor decodeAttention(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& pages,
                                  const at::Tensor& positions, const MaybeTensor& cos, const MaybeTensor& signedSin, int64_t heads,
                                  double scale, int64_t window, double softcap, const MaybeTensor& slopes) {
  const Cache cache = cacheOf(projected, keys, values, heads);
  at::Tensor y;
  AttentionArgs args = attentionArgs(projected, cache, keys, pages, positions, heads, {scale, window, softcap, slopes}, y);
  TORCH_CHECK(pages.size(0) == args.rows, "pages: expected ", args.rows, " rows, got ", pages.sizes());
  args.rotary = rotaryOf(projected, cos, signedSin, cache.headDim);
  args.chunks = largestPosition(positions, args.rotary, cos, args.maxPages * kPageTokens) / kChunkTokens + 1;
  const int64_t tasks = attentionTasks(args);
  const at::Tensor partial = at::empty({tasks * heads / cache.kvHeads * (cache.paddedDim + 2)}, projected.options().dtype(at::kFloat));
  args.partial = partial.mutable_data_ptr<float>();
  const Kernels& kernel = kernelsFor(projected);
  at::parallel_for(0, tasks, 1, [&](int64_t from, int64_t to) { kernel.attend(args, from, to); });
  if (args.chunks > 1) at::parallel_for(0, args.rows, 1, [&](int64_t from, int64_t to) { kernel.combine(args, from, to); });
  return y;
}

at::Tensor promptAttentionWithSums(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& pages,
                                   const at::Tensor& sequences, const at::Tensor& positions, int64_t heads, double scale, int64_t window,
                                   double softcap, const MaybeTensor& slopes, float* logSums) {
  const Cache cache = cacheOf(projected, keys, values, heads);
  at::Tensor y;
  AttentionArgs args = attentionArgs(projected, cache, keys, pages, positions, heads, {scale, window, softcap, slopes}, y);
  checkIndices(sequences, at::kLong, {args.rows}, "sequences");
  args.sequences = sequences.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < args.rows; i++)
    TORCH_CHECK(args.sequences[i] >= 0 && args.sequences[i] < pages.size(0), "sequence ", args.sequences[i], " is outside the ",
                pages.size(0), " rows of pages");
  args.logSums = logSums;
  largestPosition(positions, args.rotary, std::nullopt, args.maxPages * kPageTokens);
  const Kernels& kernel = kernelsFor(projected);
  at::parallel_for(0, args.rows * cache.kvHeads, 1, [&](int64_t from, int64_t to) { kernel.attendPrompt(args, from, to); });
  return y;
}

static at::Tensor promptAttention(const at::Tensor& projected, const at::Tensor& keys, const at::Tensor& values, const at::Tensor& pages,
                                  const at::Tensor& sequences, const at::Tensor& positions, int64_t heads, double scale, int64_t window,
                                  double softcap, const MaybeTensor& slopes) {
  return promptAttentionWithSums(projected, keys, values, pages, sequences, positions, heads, scale, window, softcap, slopes, nullptr);
}

}  // namespace tschat

TORCH_LIBRARY_FRAGMENT(tschat, library) {
  library.def(
      "append_cache(Tensor(a!) projected, Tensor(b!) keys, Tensor(c!) values, Tensor positions, Tensor places, Tensor? cos, Tensor? "
      "signed_sin, int heads) -> ()");
  library.def(
      "decode_attention(Tensor projected, Tensor(a!) keys, Tensor(b!) values, Tensor pages, Tensor positions, Tensor? cos, Tensor? "
      "signed_sin, int heads, float scale, int window=0, float softcap=0, Tensor? slopes=None) -> Tensor");
  library.def(
      "prompt_attention(Tensor projected, Tensor keys, Tensor values, Tensor pages, Tensor sequences, Tensor positions, int heads, float "
      "scale, int window=0, float softcap=0, Tensor? slopes=None) -> Tensor");
}
TORCH_LIBRARY_IMPL(tschat, CPU, library) {
  library.impl("append_cache", TORCH_FN(tschat::appendCache));
  library.impl("decode_attention", TORCH_FN(tschat::decodeAttention));
  library.impl("prompt_attention", TORCH_FN(tschat::promptAttention));
}
TORCH_LIBRARY_IMPL(tschat, Autograd, library) {
  for (const char* name : {"append_cache", "decode_attention", "prompt_attention"})
    library.impl(name, torch::autograd::autogradNotImplementedFallback());
}
