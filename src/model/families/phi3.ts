import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { Family } from "./family.ts";
import { originalLength } from "./rotary-config.ts";
import { gatedEntries, gatedSpec, isFrequencies, withLayers } from "./shared.ts";

/** Phi-3 and Phi-4-mini (arXiv:2404.14219): Llama whose projections are stored as one matrix. */
export const phi3: Family = {
  modelType: "phi3", className: "Phi3", prefix: "model.", spec, entries: (decoder) => gatedEntries(decoder, { fused: true }),
  isComputed: isFrequencies,
};

function spec(read: ConfigReader): DecoderSpec {
  const plain = gatedSpec(read, { maxPositions: 4096 });
  const window = read.has("sliding_window") ? read.count("sliding_window") : 0;
  const rotary = read.nested("rope_scaling") ?? read.nested("rope_parameters");
  const original = rotary ? originalLength(rotary, read, plain.maxPositions) : plain.maxPositions;
  read.mustBeOff("attention_bias", "mlp_bias", "lm_head_bias");
  read.ignore("original_max_position_embeddings", "full_attn_mod", "interpolate_factor"); // the last two of Phi-4-mini, for another runtime
  // With LongRoPE a sequence beyond the original length rotates all its tokens otherwise, and what is cached would be void: refused.
  const isLong = plain.attention.layers[0]?.rotary?.scaling.kind === "longrope";
  return { ...withLayers(plain, () => ({ window })), maxPositions: isLong ? Math.min(original, plain.maxPositions) : plain.maxPositions };
}
