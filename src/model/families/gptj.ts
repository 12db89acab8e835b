import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries, neighboursAsHalves } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { everyLayer, plainHeads } from "./shared.ts";

/** GPT-J: attention and MLP read one norm in parallel, neighbours are rotated against each other, and the head has a bias. */
export const gptj: Family = {
  modelType: "gptj", className: "GPTJ", prefix: "transformer.", spec, entries, isComputed: (name) => /\.attn\.(masked_)?bias$/.test(name),
};

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("n_embd", 4096), numLayers = read.count("n_layer", 28);
  const heads = plainHeads(hiddenSize, read.count("n_head", 16), ["n_embd", "n_head"]);
  const rotary = { dims: read.count("rotary_dim", heads.headDim), theta: 10000, scaling: { kind: "none" } } as const;
  read.ignore("rotary", "scale_attn_weights");
  read.mustBeOff("tie_word_embeddings"); // the head's bias belongs to a head of its own
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions: read.count("n_positions", 2048),
    norm: { kind: "layer", eps: read.number("layer_norm_epsilon", 1e-5), affine: true, placement: "before" },
    residual: "parallel-one-norm",
    attention: { ...heads, layers: everyLayer(numLayers, heads.headDim, { rotary }), inputBias: false, outputBias: false },
    mlp: {
      kind: "plain", size: read.count("n_inner", 4 * hiddenSize), activation: read.choice("activation_function", activations, "gelu_new"),
      bias: true,
    },
    embedding: { size: hiddenSize },
    finalNorm: true,
    tiesEmbeddings: false,
    headBias: true,
  };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention: { numHeads, headDim, layers } } = spec;
  const entries = new Entries("transformer."), order = neighboursAsHalves(numHeads, headDim, layers[0]?.rotary?.dims ?? headDim);
  entries.add("wte.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `h.${block}`, attend = `${at}.attn`;
    entries.projections([`${attend}.q_proj`, `${attend}.k_proj`, `${attend}.v_proj`], spec, block, { order, keyOrder: order });
    entries.linear(`${attend}.out_proj`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" });
    entries.linear(`${at}.mlp.fc_in`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias: true });
    entries.linear(`${at}.mlp.fc_out`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias: true });
    entries.norm(`${at}.ln_1`, spec, block, "attentionNorm");
  }
  entries.norm("ln_f", spec, "final", "norm");
  return entries.list;
}
