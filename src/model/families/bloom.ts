import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries, groupedOrder } from "./entries.ts";
import type { CheckpointEntry, Family } from "./family.ts";
import { alibiSlopes, everyLayer, plainHeads } from "./shared.ts";

/** BLOOM (arXiv:2211.05100): ALiBi instead of positions, and a norm of the embeddings. */
export const bloom: Family = { modelType: "bloom", className: "Bloom", prefix: "transformer.", spec, entries };

/** BLOOM was pretrained on sequences of this length; ALiBi itself has no limit. */
const MAX_POSITIONS = 2048;

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("hidden_size", read.has("n_embed") ? read.count("n_embed") : 64);
  const numLayers = read.count("n_layer", read.count("num_hidden_layers", 2));
  const numHeads = read.count("n_head", read.count("num_attention_heads", 8));
  const heads = plainHeads(hiddenSize, numHeads, ["hidden_size", "n_head"]);
  read.mustBeOff("apply_residual_connection_post_layernorm");
  read.ignore("n_embed");
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions: read.count("seq_length", MAX_POSITIONS),
    norm: { kind: "layer", eps: read.number("layer_norm_epsilon", 1e-5), affine: true, placement: "before" },
    residual: "sequential",
    attention: {
      ...heads, layers: everyLayer(numLayers, heads.headDim), slopes: alibiSlopes(numHeads), inputBias: true, outputBias: true,
    },
    mlp: { kind: "plain", size: 4 * hiddenSize, activation: "gelu-tanh", bias: true },
    embedding: { size: hiddenSize, norm: true },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention: { numHeads, headDim } } = spec;
  const entries = new Entries("transformer."), order = groupedOrder(numHeads, 1, headDim);
  entries.add("word_embeddings.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  entries.norm("word_embeddings_layernorm", spec, "embedding", "norm");
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `h.${block}`;
    entries.projections(`${at}.self_attention.query_key_value`, spec, block, { order });
    entries.linear(`${at}.self_attention.dense`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, { bias: true });
    entries.linear(`${at}.mlp.dense_h_to_4h`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias: true });
    entries.linear(`${at}.mlp.dense_4h_to_h`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias: true });
    entries.norm(`${at}.input_layernorm`, spec, block, "attentionNorm");
    entries.norm(`${at}.post_attention_layernorm`, spec, block, "mlpNorm");
  }
  entries.norm("ln_f", spec, "final", "norm");
  return entries.list;
}
