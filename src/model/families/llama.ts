import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { Family } from "./family.ts";
import { gatedEntries, gatedSpec, isFrequencies } from "./shared.ts";

/** Llama 1 to 3 and what shares their code: SmolLM2, TinyLlama, Vicuna. */
export const llama: Family = {
  modelType: "llama", className: "Llama", prefix: "model.", spec, entries: gatedEntries, isComputed: isFrequencies,
};

function spec(read: ConfigReader): DecoderSpec {
  read.mustBeOff("rope_interleaved");
  const plain = gatedSpec(read), bias = read.boolean("attention_bias", false);
  return {
    ...plain, attention: { ...plain.attention, inputBias: bias, outputBias: bias },
    mlp: { ...plain.mlp, bias: read.boolean("mlp_bias", false) },
  };
}
