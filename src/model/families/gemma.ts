import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import type { CheckpointEntry, Family } from "./family.ts";
import { rotaryOf } from "./rotary-config.ts";
import { gatedEntries, gatedSpec, isFrequencies, windowsOf, withLayers } from "./shared.ts";

/** Gemma (arXiv:2403.08295): norms that store weight - 1, scaled embeddings. */
export const gemma: Family = {
  modelType: "gemma", className: "Gemma", prefix: "model.", entries: gatedEntries, isComputed: isFrequencies,
  spec: (read) => {
    // Old files say "gelu" in hidden_act and mean the approximation; hidden_activation, where it stands, is right.
    const plain = gemmaSpec(read, ["hidden_activation", "gelu_pytorch_tanh"], 16);
    read.ignore("hidden_act");
    return plain;
  },
};

/** Gemma 2 (arXiv:2408.00118): norms around attention and MLP, soft caps, a window in every other layer. */
export const gemma2: Family = {
  modelType: "gemma2", className: "Gemma2", prefix: "model.", entries: entriesWithFourNorms, isComputed: isFrequencies,
  spec: (read) => later(read, { softcaps: [50, 30], isSliding: (layer) => layer % 2 === 0 }),
};

/** The text models of Gemma 3 (arXiv:2503.19786): head norms for soft caps, and rotary frequencies of their own in layers with a window. */
export const gemma3: Family = {
  modelType: "gemma3_text", className: "Gemma3Text", causalClass: "Gemma3ForCausalLM", prefix: "model.", entries: entriesWithFourNorms,
  isComputed: isFrequencies,
  spec: (read) => {
    const pattern = read.count("sliding_window_pattern", read.count("_sliding_window_pattern", 6));
    const plain = later(read, { softcaps: [0, 0], isSliding: (layer) => (layer + 1) % pattern !== 0 });
    const { attention: { headDim }, maxPositions, norm: { eps } } = plain;
    const full = rotaryOf(read, { headDim, maxPositions, theta: 1e6, layerType: "full_attention" });
    // Older files name only the base of the window layers, which are never stretched.
    const old = { dims: headDim, theta: read.number("rope_local_base_freq", 10000), scaling: { kind: "none" } } as const;
    const isNested = read.nested("rope_parameters")?.has("sliding_attention") ?? false;
    const local = isNested ? rotaryOf(read, { headDim, maxPositions, layerType: "sliding_attention" }) : old;
    // transformers reads attn_logit_softcapping here and does not use it; the published models have none.
    const layered = withLayers(plain, ({ window }) => ({ softcap: 0, rotary: window > 0 ? local : full }));
    return { ...layered, attention: { ...layered.attention, headNorm: { kind: "rms-plus-one", eps, perHead: false } } };
  },
};

function gemmaSpec(read: ConfigReader, activation: readonly [string, string], kvHeads: number): DecoderSpec {
  const plain = gatedSpec(read, {
    norm: { kind: "rms-plus-one" }, activation, heads: { kvHeads, headDim: 256 }, tiesEmbeddings: true, maxPositions: 8192,
  });
  const bias = read.boolean("attention_bias", false);
  read.mustBeOff("use_bidirectional_attention");
  return {
    ...plain, attention: { ...plain.attention, inputBias: bias, outputBias: bias },
    embedding: { ...plain.embedding, scale: Math.sqrt(plain.hiddenSize) },
  };
}

function later(
  read: ConfigReader, { softcaps, isSliding }: { softcaps: readonly [number, number]; isSliding: (layer: number) => boolean },
): DecoderSpec {
  const plain = gemmaSpec(read, ["hidden_activation", "gelu_pytorch_tanh"], 4);
  // Written by the first versions beside hidden_activation and sliding_window, which are right.
  read.ignore("hidden_act", "sliding_window_size");
  const cap = (key: string, fallback: number) => (read.has(key) ? read.number(key) : read.hasNull(key) ? 0 : fallback);
  const scale = read.number("query_pre_attn_scalar", 256) ** -0.5, softcap = cap("attn_logit_softcapping", softcaps[0]);
  const windows = windowsOf(read, plain.numLayers, { window: read.count("sliding_window", 4096), isSliding });
  const layered = withLayers(plain, (_, i) => ({ scale, softcap, window: windows[i] ?? 0 }));
  const logitSoftcap = cap("final_logit_softcapping", softcaps[1]);
  return { ...layered, norm: { ...plain.norm, placement: "around" }, ...(logitSoftcap > 0 ? { logitSoftcap } : {}) };
}

function entriesWithFourNorms(spec: DecoderSpec): CheckpointEntry[] {
  return gatedEntries(spec, {
    norms: {
      attentionNorm: "input_layernorm", attentionOutputNorm: "post_attention_layernorm", mlpNorm: "pre_feedforward_layernorm",
      mlpOutputNorm: "post_feedforward_layernorm",
    },
  });
}
