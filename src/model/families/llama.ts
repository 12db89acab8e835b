import { ConfigError } from "../../errors.ts";
import type { RotaryScaling, RotarySpec } from "../../nn/rotary.ts";
import type { DecoderSpec } from "../spec.ts";
import { activations, type CheckpointEntry, ConfigReader, type Family, type ModelConfig } from "./family.ts";

/** Llama 1 to 3 and what shares their code: SmolLM2, TinyLlama, Vicuna. */
export const llama: Family = {
  modelType: "llama", className: "Llama", spec, entries, isComputed: (name) => name.endsWith("rotary_emb.inv_freq"),
};

function spec(config: ModelConfig): DecoderSpec {
  const read = new ConfigReader(config);
  const hiddenSize = read.count("hidden_size");
  const numHeads = read.count("num_attention_heads");
  const headDim = read.count("head_dim", hiddenSize / numHeads);
  const numKvHeads = read.count("num_key_value_heads", numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw new ConfigError(`config.json: "num_attention_heads" (${numHeads}) must be a multiple of "num_key_value_heads" (${numKvHeads})`);
  }
  const attentionBias = read.boolean("attention_bias", false);
  const maxPositions = read.count("max_position_embeddings", 2048);
  return {
    vocabSize: read.count("vocab_size"),
    hiddenSize,
    numLayers: read.count("num_hidden_layers"),
    maxPositions,
    norm: { kind: "rms", eps: read.number("rms_norm_eps", 1e-6), affine: true, placement: "before" },
    attention: { numHeads, numKvHeads, headDim, inputBias: attentionBias, outputBias: attentionBias },
    positions: { kind: "rotary", ...rotary(config, headDim, maxPositions) },
    mlp: {
      kind: "gated", size: read.count("intermediate_size"), activation: read.choice("hidden_act", activations, "silu"),
      bias: read.boolean("mlp_bias", false),
    },
    embedding: { size: hiddenSize },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", false),
  };
}

/** transformers 5 writes `rope_parameters`; older files have `rope_theta` and `rope_scaling` (whose type was first called `type`). */
function rotary(config: ModelConfig, headDim: number, maxPositions: number): RotarySpec {
  const top = new ConfigReader(config);
  const parameters = top.record("rope_parameters") ?? top.record("rope_scaling") ?? {};
  const read = new ConfigReader(parameters);
  const theta = read.number("rope_theta", top.number("rope_theta", 10000));
  if (headDim % 2 !== 0) throw new ConfigError(`config.json: rotary positions need an even head size, found ${headDim}`);
  const kind = parameters.rope_type ?? parameters.type ?? "default";
  return { dims: headDim, theta, scaling: scaling(kind, read, maxPositions) };
}

function scaling(kind: unknown, read: ConfigReader, maxPositions: number): RotaryScaling {
  switch (kind) {
    case "default":
    // Dynamic NTK changes nothing up to max_position_embeddings, and longer sequences are refused.
    case "dynamic": return { kind: "none" };
    case "linear": return { kind: "linear", factor: read.number("factor") };
    case "llama3": return {
      kind: "llama3", factor: read.number("factor"),
      lowFreqFactor: read.number("low_freq_factor"), highFreqFactor: read.number("high_freq_factor"),
      originalMaxPositions: read.count("original_max_position_embeddings", maxPositions),
    };
    case "yarn": {
      const originalMaxPositions = read.count("original_max_position_embeddings", maxPositions);
      const factor = read.number("factor", maxPositions / originalMaxPositions);
      // YaRN, section 3.4: attention temperature 0.1 ln(s) + 1.
      const defaultScale = (scale: number, multiplier = 1) => (scale <= 1 ? 1 : 0.1 * multiplier * Math.log(scale) + 1);
      const attentionFactor = read.has("mscale") && read.has("mscale_all_dim")
        ? defaultScale(factor, read.number("mscale")) / defaultScale(factor, read.number("mscale_all_dim"))
        : defaultScale(factor);
      return {
        kind: "yarn", factor, originalMaxPositions, betaFast: read.number("beta_fast", 32), betaSlow: read.number("beta_slow", 1),
        attentionFactor: read.number("attention_factor", attentionFactor), truncate: read.boolean("truncate", true),
      };
    }
    default:
      throw new ConfigError(
        `config.json: rope type ${JSON.stringify(kind)} is not supported; tschat knows default, linear, dynamic, llama3 and yarn`,
      );
  }
}

function entries(spec: DecoderSpec): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention } = spec;
  const { numHeads, numKvHeads, headDim } = attention;
  const queries = numHeads * headDim, keys = numKvHeads * headDim;
  const list: CheckpointEntry[] = [
    { name: "model.embed_tokens.weight", shape: [vocabSize, hiddenSize], block: "embedding", leaf: "tokens", row: 0 },
  ];
  for (let block = 0; block < spec.numLayers; block++) {
    const add = (name: string, shape: number[], leaf: string, row = 0) =>
      list.push({ name: `model.layers.${block}.${name}`, shape, block, leaf, row });
    const matrix = (name: string, out: number, width: number, leaf: string, row: number, bias: boolean) => {
      add(`${name}.weight`, [out, width], leaf, row);
      if (bias) add(`${name}.bias`, [out], `${leaf}Bias`, row);
    };
    matrix("self_attn.q_proj", queries, hiddenSize, "queryKeyValue", 0, attention.inputBias);
    matrix("self_attn.k_proj", keys, hiddenSize, "queryKeyValue", queries, attention.inputBias);
    matrix("self_attn.v_proj", keys, hiddenSize, "queryKeyValue", queries + keys, attention.inputBias);
    matrix("self_attn.o_proj", hiddenSize, queries, "attentionOutput", 0, attention.outputBias);
    matrix("mlp.gate_proj", mlp.size, hiddenSize, "gateUp", 0, mlp.bias);
    matrix("mlp.up_proj", mlp.size, hiddenSize, "gateUp", mlp.size, mlp.bias);
    matrix("mlp.down_proj", hiddenSize, mlp.size, "down", 0, mlp.bias);
    add("input_layernorm.weight", [hiddenSize], "attentionNorm");
    add("post_attention_layernorm.weight", [hiddenSize], "mlpNorm");
  }
  list.push({ name: "model.norm.weight", shape: [hiddenSize], block: "final", leaf: "norm", row: 0 });
  return list;
}
