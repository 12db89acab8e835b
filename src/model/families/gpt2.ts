import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { everyLayer, plainHeads, withLayers } from "./shared.ts";

/** GPT-2, whose matrices are stored [in, out]. */
export const gpt2: Family = {
  modelType: "gpt2", className: "GPT2", causalClass: "GPT2LMHeadModel", prefix: "transformer.", spec, entries,
  isComputed: (name) => /\.attn\.(masked_)?bias$/.test(name),
};

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("n_embd", 768), numLayers = read.count("n_layer", 12);
  const heads = plainHeads(hiddenSize, read.count("n_head", 12), ["n_embd", "n_head"]);
  const scale = read.boolean("scale_attn_weights", true) ? heads.headDim ** -0.5 : 1;
  const isByLayer = read.boolean("scale_attn_by_inverse_layer_idx", false);
  read.mustBeOff("add_cross_attention");
  read.ignore("n_ctx");
  const plain: DecoderSpec = {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions: read.count("n_positions", 1024),
    norm: { kind: "layer", eps: read.number("layer_norm_epsilon", 1e-5), affine: true, placement: "before" },
    residual: "sequential",
    attention: { ...heads, layers: everyLayer(numLayers, heads.headDim), inputBias: true, outputBias: true },
    mlp: {
      kind: "plain", size: read.count("n_inner", 4 * hiddenSize), activation: read.choice("activation_function", activations, "gelu_new"),
      bias: true,
    },
    embedding: { size: hiddenSize, positions: { offset: 0 } },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
  return withLayers(plain, (_, i) => ({ scale: isByLayer ? scale / (i + 1) : scale }));
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp } = spec;
  const entries = new Entries("transformer."), stored = { bias: true, transposed: true };
  entries.add("wte.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  entries.add("wpe.weight", [spec.maxPositions, hiddenSize], { block: "embedding", leaf: "positions" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `h.${block}`;
    entries.projections(`${at}.attn.c_attn`, spec, block, { transposed: true });
    entries.linear(`${at}.attn.c_proj`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, stored);
    entries.linear(`${at}.mlp.c_fc`, [mlp.size, hiddenSize], { block, leaf: "up" }, stored);
    entries.linear(`${at}.mlp.c_proj`, [hiddenSize, mlp.size], { block, leaf: "down" }, stored);
    entries.norm(`${at}.ln_1`, spec, block, "attentionNorm");
    entries.norm(`${at}.ln_2`, spec, block, "mlpNorm");
  }
  entries.norm("ln_f", spec, "final", "norm");
  return entries.list;
}
