import { ConfigError } from "../../errors.ts";
import type { DecoderSpec } from "../spec.ts";
import { activations, type CheckpointEntry, ConfigReader, type Family, type ModelConfig } from "./family.ts";

/** OPT (arXiv:2205.01068), with the 350M variant's norm after the sum and its narrow embeddings; Galactica too. */
export const opt: Family = { modelType: "opt", className: "OPT", spec, entries };

/** OPT's position table has two unused rows in front. */
const POSITION_OFFSET = 2;

function spec(config: ModelConfig): DecoderSpec {
  const read = new ConfigReader(config);
  const hiddenSize = read.count("hidden_size");
  const numHeads = read.count("num_attention_heads");
  if (hiddenSize % numHeads !== 0) {
    throw new ConfigError(`config.json: "hidden_size" (${hiddenSize}) must be a multiple of "num_attention_heads" (${numHeads})`);
  }
  const bias = read.boolean("enable_bias", true);
  const before = read.boolean("do_layer_norm_before", true);
  return {
    vocabSize: read.count("vocab_size"),
    hiddenSize,
    numLayers: read.count("num_hidden_layers"),
    maxPositions: read.count("max_position_embeddings", 2048),
    norm: { kind: "layer", eps: 1e-5, affine: read.boolean("layer_norm_elementwise_affine", true), placement: before ? "before" : "after" },
    attention: { numHeads, numKvHeads: numHeads, headDim: hiddenSize / numHeads, inputBias: bias, outputBias: bias },
    positions: { kind: "learned", offset: POSITION_OFFSET },
    mlp: { kind: "plain", size: read.count("ffn_dim"), activation: read.choice("activation_function", activations, "relu"), bias },
    embedding: { size: read.count("word_embed_proj_dim", hiddenSize) },
    finalNorm: before && !read.boolean("_remove_final_layer_norm", false),
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention, embedding, norm } = spec;
  const list: CheckpointEntry[] = [];
  const add = (name: string, shape: number[], block: CheckpointEntry["block"], leaf: string, row = 0) =>
    list.push({ name: `model.decoder.${name}`, shape, block, leaf, row });
  const addNorm = (name: string, block: CheckpointEntry["block"], leaf: string) => {
    if (!norm.affine) return;
    add(`${name}.weight`, [hiddenSize], block, leaf);
    add(`${name}.bias`, [hiddenSize], block, `${leaf}Bias`);
  };
  add("embed_tokens.weight", [vocabSize, embedding.size], "embedding", "tokens");
  add("embed_positions.weight", [spec.maxPositions + POSITION_OFFSET, hiddenSize], "embedding", "positions");
  if (embedding.size !== hiddenSize) {
    add("project_in.weight", [hiddenSize, embedding.size], "embedding", "projection");
    add("project_out.weight", [embedding.size, hiddenSize], "final", "projection");
  }
  for (let layer = 0; layer < spec.numLayers; layer++) {
    const matrix = (name: string, out: number, width: number, leaf: string, row: number, bias: boolean) => {
      add(`layers.${layer}.${name}.weight`, [out, width], layer, leaf, row);
      if (bias) add(`layers.${layer}.${name}.bias`, [out], layer, `${leaf}Bias`, row);
    };
    matrix("self_attn.q_proj", hiddenSize, hiddenSize, "queryKeyValue", 0, attention.inputBias);
    matrix("self_attn.k_proj", hiddenSize, hiddenSize, "queryKeyValue", hiddenSize, attention.inputBias);
    matrix("self_attn.v_proj", hiddenSize, hiddenSize, "queryKeyValue", 2 * hiddenSize, attention.inputBias);
    matrix("self_attn.out_proj", hiddenSize, hiddenSize, "attentionOutput", 0, attention.outputBias);
    matrix("fc1", mlp.size, hiddenSize, "up", 0, mlp.bias);
    matrix("fc2", hiddenSize, mlp.size, "down", 0, mlp.bias);
    addNorm(`layers.${layer}.self_attn_layer_norm`, layer, "attentionNorm");
    addNorm(`layers.${layer}.final_layer_norm`, layer, "mlpNorm");
  }
  if (spec.finalNorm) addNorm("final_layer_norm", "final", "norm");
  return list;
}
