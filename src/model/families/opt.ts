import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { everyLayer, plainHeads } from "./shared.ts";

/** OPT (arXiv:2205.01068), with the 350M variant's norm after the sum and its narrow embeddings; Galactica too. */
export const opt: Family = { modelType: "opt", className: "OPT", prefix: "model.", spec, entries };

/** OPT's position table has two unused rows in front. */
const POSITION_OFFSET = 2;

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("hidden_size"), numLayers = read.count("num_hidden_layers");
  const heads = plainHeads(hiddenSize, read.count("num_attention_heads"), ["hidden_size", "num_attention_heads"]);
  read.ignore("learned_embeddings"); // Galactica
  read.mustBeOff("scale_embeddings");
  const bias = read.boolean("enable_bias", true), before = read.boolean("do_layer_norm_before", true);
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions: read.count("max_position_embeddings", 2048),
    norm: { kind: "layer", eps: 1e-5, affine: read.boolean("layer_norm_elementwise_affine", true), placement: before ? "before" : "after" },
    residual: "sequential",
    attention: { ...heads, layers: everyLayer(numLayers, heads.headDim), inputBias: bias, outputBias: bias },
    mlp: { kind: "plain", size: read.count("ffn_dim"), activation: read.choice("activation_function", activations, "relu"), bias },
    embedding: { size: read.count("word_embed_proj_dim", hiddenSize), positions: { offset: POSITION_OFFSET } },
    finalNorm: before && !read.boolean("_remove_final_layer_norm", false),
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention, embedding } = spec;
  const entries = new Entries("model.decoder.");
  entries.add("embed_tokens.weight", [vocabSize, embedding.size], { block: "embedding", leaf: "tokens" });
  entries.add("embed_positions.weight", [spec.maxPositions + POSITION_OFFSET, hiddenSize], { block: "embedding", leaf: "positions" });
  if (embedding.size !== hiddenSize) {
    entries.add("project_in.weight", [hiddenSize, embedding.size], { block: "embedding", leaf: "projection" });
    entries.add("project_out.weight", [embedding.size, hiddenSize], { block: "final", leaf: "projection" });
  }
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `layers.${block}`, attend = `${at}.self_attn`;
    entries.projections([`${attend}.q_proj`, `${attend}.k_proj`, `${attend}.v_proj`], spec, block);
    entries.linear(`${attend}.out_proj`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, { bias: attention.outputBias });
    entries.linear(`${at}.fc1`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias: mlp.bias });
    entries.linear(`${at}.fc2`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias: mlp.bias });
    entries.norm(`${at}.self_attn_layer_norm`, spec, block, "attentionNorm");
    entries.norm(`${at}.final_layer_norm`, spec, block, "mlpNorm");
  }
  if (spec.finalNorm) entries.norm("final_layer_norm", spec, "final", "norm");
  return entries.list;
}
