import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { CheckpointEntry, Family } from "./family.ts";
import { gatedEntries, gatedSpec, isFrequencies } from "./shared.ts";

/** StableLM 3B, StableLM 2 (arXiv:2402.17834): Llama with layer norms and a quarter of each head rotated; the 12B reads in parallel. */
export const stablelm: Family = {
  modelType: "stablelm", className: "StableLm", prefix: "model.", spec, entries, isComputed: isFrequencies,
};

function spec(read: ConfigReader): DecoderSpec {
  const plain = gatedSpec(read, {
    norm: { kind: "layer", epsKey: "layer_norm_eps" }, inputBias: read.boolean("use_qkv_bias", false), rotaryShare: 0.25,
    maxPositions: 4096,
  });
  read.ignore("rotary_scaling_factor"); // 1 in StableLM 3B
  const { eps } = plain.norm, headNorm = { kind: "layer", eps, perHead: true } as const;
  const attention = read.boolean("qk_layernorm", false) ? { ...plain.attention, headNorm } : plain.attention;
  return { ...plain, attention, residual: read.boolean("use_parallel_residual", false) ? "parallel-one-norm" : "sequential" };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { residual, attention: { headNorm, numHeads, numKvHeads, headDim } } = spec;
  const mlpNorm = residual === "sequential" ? { mlpNorm: "post_attention_layernorm" } : {};
  const list = gatedEntries(spec, { norms: { attentionNorm: "input_layernorm", ...mlpNorm } });
  if (!headNorm) return list;
  const ofHeads = (block: number, name: string, leaf: string, heads: number): CheckpointEntry[] =>
    Array.from({ length: heads }, (_, h) => ({
      name: `model.layers.${block}.self_attn.${name}.norms.${h}.weight`, shape: [headDim], block, leaf, row: h * headDim,
    }));
  return [...list, ...Array.from({ length: spec.numLayers }, (_, block) => [
    ...ofHeads(block, "q_layernorm", "queryNorm", numHeads), ...ofHeads(block, "k_layernorm", "keyNorm", numKvHeads),
  ]).flat()];
}
