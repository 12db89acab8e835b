import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries, groupedOrder } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { rotaryOf } from "./rotary-config.ts";
import { everyLayer, plainHeads } from "./shared.ts";

/** GPT-NeoX (arXiv:2204.06745) and Pythia: a quarter of each head is rotated, attention and MLP usually read in parallel. */
export const gptNeox: Family = {
  modelType: "gpt_neox", className: "GPTNeoX", prefix: "gpt_neox.", storedHead: "embed_out", spec, entries,
  isComputed: (name) => /\.attention\.((masked_)?bias|rotary_emb\.inv_freq)$/.test(name),
};

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("hidden_size", 6144), numLayers = read.count("num_hidden_layers", 44);
  const heads = plainHeads(hiddenSize, read.count("num_attention_heads", 64), ["hidden_size", "num_attention_heads"]);
  const maxPositions = read.count("max_position_embeddings", 2048), bias = read.boolean("attention_bias", true);
  const rotary = rotaryOf(read, {
    headDim: heads.headDim, maxPositions, theta: read.number("rotary_emb_base", 10000), share: read.number("rotary_pct", 0.25),
  });
  read.ignore("is_decoder"); // says which cache transformers uses; attention is causal either way
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions,
    norm: { kind: "layer", eps: read.number("layer_norm_eps", 1e-5), affine: true, placement: "before" },
    residual: read.boolean("use_parallel_residual", true) ? "parallel" : "sequential",
    attention: { ...heads, layers: everyLayer(numLayers, heads.headDim, { rotary }), inputBias: bias, outputBias: bias },
    mlp: {
      kind: "plain", size: read.count("intermediate_size", 4 * hiddenSize), activation: read.choice("hidden_act", activations, "gelu"),
      bias: true,
    },
    embedding: { size: hiddenSize },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", false),
  };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention: { numHeads, headDim, outputBias } } = spec;
  const entries = new Entries("gpt_neox."), order = groupedOrder(numHeads, 1, headDim);
  entries.add("embed_in.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `layers.${block}`;
    entries.projections(`${at}.attention.query_key_value`, spec, block, { order });
    entries.linear(`${at}.attention.dense`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, { bias: outputBias });
    entries.linear(`${at}.mlp.dense_h_to_4h`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias: true });
    entries.linear(`${at}.mlp.dense_4h_to_h`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias: true });
    entries.norm(`${at}.input_layernorm`, spec, block, "attentionNorm");
    entries.norm(`${at}.post_attention_layernorm`, spec, block, "mlpNorm");
  }
  entries.norm("final_layer_norm", spec, "final", "norm");
  return entries.list;
}
