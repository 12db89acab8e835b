import { CheckpointError } from "../../errors.ts";

/** What of the file, beside its metadata, says something about the model. */
export interface LlamaTensorFacts {
  /** Rows of the embedding. */
  vocabSize: number;
  hasOutputHead: boolean;
  hasAttentionBias: boolean;
  hasMlpBias: boolean;
  /** [headDim / 2] divisors of the rotary frequencies (`rope_freqs.weight`), where the file has them. */
  frequencyFactors: Float32Array | undefined;
}

type Metadata = Readonly<Record<string, unknown>>;

/** Llama 3.1's and 3.2's settings; GGUF keeps only the divisors that follow from them, not the settings themselves. */
const LLAMA3_SCALING = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/**
 * `config.json` of a Llama checkpoint from the metadata of its GGUF file.
 *
 * @param source named in errors
 * @throws {CheckpointError} for missing metadata, or rotary settings that Hugging Face's Llama cannot express
 */
export function llamaConfig(metadata: Metadata, facts: LlamaTensorFacts, source: string): Record<string, unknown> {
  const number = (key: string): number => {
    const value = optionalNumber(metadata, `llama.${key}`);
    if (value !== undefined) return value;
    throw new CheckpointError(`${source}: llama.${key}: expected a number, found ${JSON.stringify(metadata[`llama.${key}`]) ?? "nothing"}`);
  };
  const hiddenSize = number("embedding_length");
  const numHeads = number("attention.head_count");
  const headDim = optionalNumber(metadata, "llama.attention.key_length") ?? hiddenSize / numHeads;
  const rotaryDim = optionalNumber(metadata, "llama.rope.dimension_count") ?? headDim;
  if (rotaryDim !== headDim) {
    throw new CheckpointError(
      `${source}: llama.rope.dimension_count is ${rotaryDim}, expected the head size ${headDim}: partial rotary positions`,
    );
  }
  const ropeTheta = optionalNumber(metadata, "llama.rope.freq_base") ?? 10000;
  const factors = facts.frequencyFactors;
  const ropeScaling = factors === undefined ? plainScaling(metadata, source) : llama3Scaling(factors, { ropeTheta, headDim, source });
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_act: "silu",
    hidden_size: hiddenSize,
    intermediate_size: number("feed_forward_length"),
    num_hidden_layers: number("block_count"),
    num_attention_heads: numHeads,
    num_key_value_heads: optionalNumber(metadata, "llama.attention.head_count_kv") ?? numHeads,
    head_dim: headDim,
    rms_norm_eps: number("attention.layer_norm_rms_epsilon"),
    rope_theta: ropeTheta,
    ...(ropeScaling && { rope_scaling: ropeScaling }),
    max_position_embeddings: number("context_length"),
    vocab_size: facts.vocabSize,
    attention_bias: facts.hasAttentionBias,
    mlp_bias: facts.hasMlpBias,
    tie_word_embeddings: !facts.hasOutputHead,
    ...tokenIds(metadata),
  };
}

/** `bos_token_id`, `eos_token_id` and `pad_token_id`, those that the file has. */
export function tokenIds(metadata: Metadata): Record<string, number> {
  const names = { bos_token_id: "bos", eos_token_id: "eos", pad_token_id: "padding" };
  const ids = Object.entries(names).map(([key, name]) => [key, optionalNumber(metadata, `tokenizer.ggml.${name}_token_id`)]);
  return Object.fromEntries(ids.filter(([, id]) => id !== undefined)) as Record<string, number>;
}

/** The scaling that the metadata states: linear or yarn. */
function plainScaling(metadata: Metadata, source: string): object | undefined {
  const type = metadata["llama.rope.scaling.type"];
  if (type === undefined || type === "none") return undefined;
  const factor = optionalNumber(metadata, "llama.rope.scaling.factor");
  if (factor === undefined) {
    throw new CheckpointError(`${source}: llama.rope.scaling.type is ${String(type)}, but llama.rope.scaling.factor is missing`);
  }
  const original = optionalNumber(metadata, "llama.rope.scaling.original_context_length");
  return { rope_type: String(type), factor, ...(original !== undefined && { original_max_position_embeddings: original }) };
}

/**
 * The `llama3` scaling whose divisors are `factors`: the lowest frequencies are divided by the whole factor.
 * Settings other than Meta's give other divisors, and are refused rather than guessed.
 */
function llama3Scaling(factors: Float32Array, rotary: { ropeTheta: number; headDim: number; source: string }): object {
  const { ropeTheta, headDim, source } = rotary;
  const factor = Math.max(...factors);
  const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = LLAMA3_SCALING;
  const isExpected = (found: number, index: number): boolean => {
    const wavelength = 2 * Math.PI * ropeTheta ** ((2 * index) / headDim);
    // 0 below the low bound (all of the factor), 1 above the high bound (none of it), straight between.
    const smooth = Math.min(1, Math.max(0, (original / wavelength - low) / (high - low)));
    const expected = 1 / ((1 - smooth) / factor + smooth);
    return Math.abs(found - expected) <= 1e-3 * expected;
  };
  if (factors.length === headDim / 2 && factors.every(isExpected)) return { rope_type: "llama3", factor, ...LLAMA3_SCALING };
  throw new CheckpointError(
    `${source}: rope_freqs.weight: expected the frequency factors of Llama 3's rotary scaling, found others; ` +
      "use the Hugging Face folder",
  );
}

/**
 * A number of the metadata. GGUF holds fractions as float32: the shortest decimal that rounds to the same float32 is
 * what the original configuration said (1e-5, not 9.999999747378752e-6).
 */
function optionalNumber(metadata: Metadata, key: string): number | undefined {
  const value = metadata[key];
  if (typeof value === "bigint") return Number(value);
  if (typeof value !== "number") return undefined;
  if (Number.isInteger(value)) return value;
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}
