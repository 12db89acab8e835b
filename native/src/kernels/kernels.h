// What the kernels of one instruction set offer, as plain pointers: the files that compile them know nothing of ATen.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tschat {

/** kRmsPlusOne multiplies with weight + 1, summed in float32: Gemma stores what its weights differ from 1 by. */
enum class Norm : int64_t { kNone, kRms, kLayer, kRmsPlusOne };
enum class Activation : int64_t { kNone, kSilu, kGelu, kGeluTanh, kRelu };

/** Outputs that one task of `linear` makes. */
constexpr int64_t kLinearGroup = 16;
/** Tokens of a page of the key-value cache. */
constexpr int64_t kPageTokens = 32;
/** Tokens that one task of `attend` reads. Fixed, so that a row's sums do not depend on the rows beside it. */
constexpr int64_t kChunkTokens = 256;
/** Head sizes are padded to a multiple of this in the cache. */
constexpr int64_t kHeadMultiple = 16;

/** y = norm(x) * weight + bias over `width` elements of each row; `weight` and `bias` may be null. */
struct NormArgs {
  const void* x;
  const void* weight;
  const void* bias;
  void* y;
  int64_t width;
  float eps;
  Norm kind;
};

/** dx, and the sums over rows of the gradients of weight and bias. */
struct NormBackwardArgs {
  const void* x;
  const void* weight; // or null
  const void* dy;
  void* dx;
  int64_t width;
  float eps;
  Norm kind;
};

/** y = residual + activation(norm(x) weight^T + bias); gated: the weight holds [gate; up] and y = activation(gate) * up. */
struct LinearArgs {
  NormArgs norm; // norm.x is x, norm.width its width; norm.y is not used
  const void* weight; // [outputs or 2 outputs, width], of x's type or int8
  const float* scales; // of int8 rows, else null
  const void* bias;
  const void* residual;
  void* y; // [rows, outputs]
  int64_t rows;
  int64_t outputs;
  Activation activation;
  bool gated;
};

/** y = activation(gate) * up of rows [gate, up]; without gate y = activation(x). */
struct ActivationArgs {
  const void* x;
  void* y;
  int64_t width; // of y
  Activation activation;
  bool gated;
};

/** dx of `activation`, whose input was x. */
struct ActivationBackwardArgs {
  const void* x;
  const void* dy;
  void* dx;
  int64_t width; // of dy
  Activation activation;
  bool gated;
};

/**
 * Keys and values live in pages of kPageTokens tokens, one run for each page and key head. With P = 2 elements that are multiplied
 * together in bfloat16 and P = 1 in float32, D the padded head size: keys [token / 16][D / P][16 tokens][P], so that a vector holds 16
 * tokens and no sum runs across its lanes; values [token / P][D][P].
 */
struct Cache {
  void* keys; // [pages, kvHeads, kPageTokens * D]
  void* values;
  int64_t kvHeads;
  int64_t headDim;
  int64_t paddedDim;
};

/** cos and signed sin of every position: [positions, dims], halves rotated against each other; null without rotary positions. */
struct Rotary {
  const void* cos;
  const void* signedSin;
  int64_t dims;
};

/**
 * Prompts enter the cache: queries and keys of `projected` are rotated in place, keys and values copied to their pages. The tokens of a
 * sequence stand together, in order. Without pages (null) there is rotation only.
 */
struct AppendArgs {
  Cache cache;
  Rotary rotary; // with the sines negated, of a gradient: the rotation back
  void* projected; // [tokens, (heads + 2 kvHeads) * headDim]: queries, keys, values
  const int64_t* positions; // [tokens]
  const int64_t* places; // [tokens]: page * kPageTokens + place within it
  int64_t tokens;
  int64_t heads;
};

/** One new token a row: its key and value are appended, and its queries attend to the row's pages. */
struct AttentionArgs {
  Cache cache;
  Rotary rotary;
  const void* projected; // [rows, (heads + 2 kvHeads) * headDim]
  const int32_t* pages; // [rows, maxPages]; with `sequences` [sequences, maxPages]
  const int64_t* sequences; // [rows]: which pages a row has; null in decoding, where each row has its own
  const int64_t* positions; // [rows]: tokens already in the cache
  void* y; // [rows, heads * headDim]
  float* logSums; // [rows, heads] log of the sum of e^score, or null
  const float* slopes; // ALiBi: [heads] or null
  float* partial; // [tasks, heads / kvHeads, paddedDim + 2]: unscaled sums, largest score, sum of weights
  int64_t maxPages;
  int64_t rows;
  int64_t heads;
  int64_t chunks; // of the longest row
  int64_t window; // tokens that a query sees, itself included; 0 means all
  float scale;
  float softcap; // 0: none
};

/** Tasks of `attend`: (row, key head, chunk), chunk fastest. */
inline int64_t attentionTasks(const AttentionArgs& args) { return args.rows * args.cache.kvHeads * args.chunks; }

/** One token a row, drawn from its logits. */
struct SampleArgs {
  const void* logits; // [rows, vocab]
  const double* uniforms; // [rows]
  const double* settings; // [rows, 3]: temperature, topK, topP
  const int64_t* excluded; // [exclusions, 2]: row, token; rows ascending
  const int64_t* firstExcluded; // [rows + 1]: where each row's exclusions begin
  int64_t* tokens; // [rows]: drawn, or why none was
  float* logprobs; // [rows]
  int64_t vocab;
};

/** In place of a token: a logit is NaN or Infinity. */
constexpr int64_t kNotANumber = -1;
/** In place of a token: every token that is not excluded has the logit -Infinity. */
constexpr int64_t kNothingToDraw = -2;

/** Log-probability of each row's target under softmax(logits / temperature); backward the gradient takes the place of the logits. */
struct TokenLogprobsArgs {
  const void* logits; // [rows, vocab]; written backward
  const int64_t* targets; // [rows]
  float* logprobs; // [rows]
  float* logSums; // [rows]: log of the sum of e^(logits / temperature); read backward
  float* entropies; // [rows] or null
  const float* gradient; // [rows], backward only
  int64_t vocab;
  double temperature;
};

/** The kernels of one instruction set for one element type; each does the tasks [from, to). */
/** The gradient of attention within packed sequences. */
struct AttentionBackwardArgs {
  Rotary rotary; // with the sines negated: the rotation back
  const void* projected; // [tokens, (heads + 2 kvHeads) * headDim]: queries, keys, values, the first two rotated
  const void* y; // [tokens, heads * headDim]
  const void* dy;
  const float* logSums; // [tokens, heads]
  const float* slopes; // ALiBi: [heads] or null
  void* dProjected; // as `projected`, of what was projected before rotation
  float* partial; // for each sequence [heads, 2, its tokens, padded head size]: shares of the gradients of keys and values
  const int64_t* offsets; // sequence i is tokens [offsets[i], offsets[i + 1])
  int64_t heads;
  int64_t kvHeads;
  int64_t headDim;
  int64_t window; // as in AttentionArgs
  float scale;
  float softcap;
};

struct Kernels {
  void (*norm)(const NormArgs&, int64_t fromRow, int64_t toRow);
  int64_t (*linearTasks)(const LinearArgs&);
  void (*linear)(const LinearArgs&, int64_t from, int64_t to);
  void (*activation)(const ActivationArgs&, int64_t fromRow, int64_t toRow);
  /** Tasks: tokens. */
  void (*append)(const AppendArgs&, int64_t from, int64_t to);
  void (*attend)(const AttentionArgs&, int64_t from, int64_t to);
  /** Joins the chunks of rows that have several. Tasks: rows. */
  void (*combine)(const AttentionArgs&, int64_t fromRow, int64_t toRow);
  /** Rows are tokens of prompts, rotated and in the cache already. Tasks: (row, key head), head fastest. */
  void (*attendPrompt)(const AttentionArgs&, int64_t from, int64_t to);
  /** One query head of one sequence; `joinAttentionBackward` finishes. */
  void (*attendBackward)(const AttentionBackwardArgs&, int64_t sequence, int64_t head);
  void (*joinAttentionBackward)(const AttentionBackwardArgs&, int64_t sequence, int64_t fromToken, int64_t toToken);
  /** Adds to dWeight and dBias [width], which may be null: each thread has its own. */
  void (*normBackward)(const NormBackwardArgs&, int64_t fromRow, int64_t toRow, float* dWeight, float* dBias);
  /** sum += x, elements [from, to). */
  void (*accumulate)(const void* x, float* sum, int64_t from, int64_t to);
  void (*activationBackward)(const ActivationBackwardArgs&, int64_t fromRow, int64_t toRow);
  void (*tokenLogprobs)(const TokenLogprobsArgs&, int64_t fromRow, int64_t toRow);
  void (*tokenLogprobsBackward)(const TokenLogprobsArgs&, int64_t fromRow, int64_t toRow);
  void (*sample)(const SampleArgs&, int64_t fromRow, int64_t toRow);
  /** Tasks: rows. */
};

struct InstructionSet {
  const char* name;
  Kernels float32;
  Kernels bfloat16;
};

extern const InstructionSet kPlainKernels;
#if defined(__x86_64__)
extern const InstructionSet kAvx2Kernels;
extern const InstructionSet kAvx512Kernels;
#endif

/** The instruction set in use: the best that the processor has, or the one that TSCHAT_KERNELS names. */
const InstructionSet& kernels();

/** This thread's buffer number `index` (0 to 3), at least that large and aligned to 64 bytes; the next call may move it. */
void* scratch(int index, size_t bytes);

}  // namespace tschat
