import { ConfigError } from "../../errors.ts";
import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries, groupedOrder } from "./entries.ts";
import { activations, type CheckpointEntry, type Family } from "./family.ts";
import { rotaryOf } from "./rotary-config.ts";
import { alibiSlopes, everyLayer, isFrequencies, plainHeads } from "./shared.ts";

/**
 * Falcon (arXiv:2311.16867): the 7B with one key head and one norm, the 40B and 180B with grouped heads and two norms, and the RefinedWeb
 * models with ALiBi and plain heads.
 */
export const falcon: Family = {
  modelType: "falcon", className: "Falcon", prefix: "transformer.", spec, entries, isComputed: isFrequencies,
};

function spec(read: ConfigReader): DecoderSpec {
  const hiddenSize = read.count("hidden_size", 4544), numLayers = read.count("num_hidden_layers", 32);
  const numHeads = read.count("num_attention_heads", 71);
  const plain = plainHeads(hiddenSize, numHeads, ["hidden_size", "num_attention_heads"]), { headDim } = plain;
  const isGrouped = read.boolean("new_decoder_architecture", false), isMultiQuery = read.boolean("multi_query", true);
  read.mustBeOff("apply_residual_connection_post_layernorm");
  read.ignore("num_kv_heads", "ff_factor"); // the width of the MLP is in ffn_hidden_size
  const numKvHeads = isGrouped ? read.count("num_kv_heads", numHeads) : isMultiQuery ? 1 : numHeads;
  if (numHeads % numKvHeads !== 0) {
    throw new ConfigError(`config.json: "num_attention_heads" (${numHeads}) must be a multiple of "num_kv_heads" (${numKvHeads})`);
  }
  const isParallel = read.boolean("parallel_attn", true);
  if (isGrouped && !isParallel) {
    throw new ConfigError('config.json: "parallel_attn": expected true with "new_decoder_architecture", found false');
  }
  const numNorms = read.count("num_ln_in_parallel_attn", isGrouped ? 2 : 1);
  const maxPositions = read.count("max_position_embeddings", 2048), bias = read.boolean("bias", false);
  const isAlibi = read.boolean("alibi", false);
  // transformers computes slopes in bfloat16 and scales them with the scores.
  const slopes = alibiSlopes(numHeads).map((slope) => roundToBfloat16(slope) * headDim ** -0.5);
  const rotary = isAlibi ? undefined : rotaryOf(read, { headDim, maxPositions });
  if (isAlibi) read.ignore("rope_parameters", "rope_theta", "rope_scaling");
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions,
    norm: { kind: "layer", eps: read.number("layer_norm_epsilon", 1e-5), affine: true, placement: "before" },
    residual: !isParallel ? "sequential" : isGrouped && numNorms === 2 ? "parallel" : "parallel-one-norm",
    attention: {
      numHeads, numKvHeads, headDim, layers: everyLayer(numLayers, headDim, { rotary }), ...(isAlibi ? { slopes } : {}),
      inputBias: bias, outputBias: bias,
    },
    mlp: {
      kind: "plain", size: read.count("ffn_hidden_size", 4 * hiddenSize), activation: read.choice("activation", activations, "gelu"), bias,
    },
    embedding: { size: hiddenSize },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", true),
  };
}

/** Round to nearest, ties to even. */
function roundToBfloat16(value: number): number {
  const bits = new Uint32Array(new Float32Array([value]).buffer);
  const word = bits[0] ?? 0;
  bits[0] = ((word + 0x7fff + ((word >>> 16) & 1)) & 0xffff0000) >>> 0;
  return new Float32Array(bits.buffer)[0] ?? 0;
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, residual, attention: { numHeads, numKvHeads, headDim, outputBias: bias } } = spec;
  const entries = new Entries("transformer.");
  // With one key head the matrix holds queries, key and value one after the other, as the leaf does.
  const order = numKvHeads === 1 ? {} : { order: groupedOrder(numKvHeads, numHeads / numKvHeads, headDim) };
  const [first, second] = residual === "parallel" ? ["ln_attn", "ln_mlp"] : ["input_layernorm", "post_attention_layernorm"];
  entries.add("word_embeddings.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `h.${block}`;
    entries.projections(`${at}.self_attention.query_key_value`, spec, block, order);
    entries.linear(`${at}.self_attention.dense`, [hiddenSize, hiddenSize], { block, leaf: "attentionOutput" }, { bias });
    entries.linear(`${at}.mlp.dense_h_to_4h`, [mlp.size, hiddenSize], { block, leaf: "up" }, { bias });
    entries.linear(`${at}.mlp.dense_4h_to_h`, [hiddenSize, mlp.size], { block, leaf: "down" }, { bias });
    entries.norm(`${at}.${first}`, spec, block, "attentionNorm");
    if (residual !== "parallel-one-norm") entries.norm(`${at}.${second}`, spec, block, "mlpNorm");
  }
  entries.norm("ln_f", spec, "final", "norm");
  return entries.list;
}
