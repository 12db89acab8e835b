import type { ModelConfig } from "../../families/family.ts";
import { configNumber, configValue, type GgufArchitecture, type GgufFacts } from "../architecture.ts";
import { ROPE_FREQUENCIES, ropeConfig, ropeMetadata, ropeSideValues } from "../rope.ts";
import { rotaryNeighbours } from "../value-change.ts";

/** Tensors outside the layers, of Llama and of those that took its names. */
export const LLAMA_TENSORS = {
  "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight",
};

/** Tensors of a layer with separate query, key, value, gate and up. */
export const LLAMA_LAYER_TENSORS = {
  attn_norm: "input_layernorm", attn_q: "self_attn.q_proj", attn_k: "self_attn.k_proj", attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj", ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj", ffn_up: "mlp.up_proj", ffn_down: "mlp.down_proj",
};

/** Whole numbers that Llama and those after it call the same. */
export const LLAMA_COUNTS = {
  embedding_length: "hidden_size", feed_forward_length: "intermediate_size", block_count: "num_hidden_layers",
  "attention.head_count": "num_attention_heads", context_length: "max_position_embeddings",
};

/** Size of a head as a `config.json` states or implies it. */
export function headDimOf(config: ModelConfig): number {
  return configNumber(config, "head_dim", configNumber(config, "hidden_size") / configNumber(config, "num_attention_heads"));
}

/** Size of a head as a file states or implies it. */
export function headDimIn({ metadata }: GgufFacts): number {
  return metadata.optional("attention.key_length") ?? metadata.number("embedding_length") / metadata.number("attention.head_count");
}

/** Number of key-value heads of a file, all heads where it says nothing. */
export function keyValueHeads({ metadata }: GgufFacts): number {
  return metadata.optional("attention.head_count_kv") ?? metadata.number("attention.head_count");
}

/** Llama 1 to 3 and Mistral, whose files are of the same architecture. */
export const llama: GgufArchitecture = {
  name: "llama", modelTypes: ["llama", "mistral"], className: "LlamaForCausalLM",
  counts: LLAMA_COUNTS,
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps" },
  fixed: { hidden_act: ["silu"] },
  tensors: LLAMA_TENSORS, layerPrefix: "model.layers", layerTensors: LLAMA_LAYER_TENSORS, sideTensors: [ROPE_FREQUENCIES],
  config: (facts) => {
    const headDim = headDimIn(facts);
    facts.metadata.expect("rope.dimension_count", headDim, "partial rotary positions are not Llama's");
    return {
      num_key_value_heads: keyValueHeads(facts), head_dim: headDim, ...ropeConfig(facts, headDim),
      attention_bias: facts.has("model.layers.0.self_attn.q_proj.bias"), mlp_bias: facts.has("model.layers.0.mlp.up_proj.bias"),
    };
  },
  metadata: (config) => ({
    ...keyValueMetadata(config), "rope.dimension_count": headDimOf(config), ...ropeMetadata(config),
    // llama.cpp has no window in this architecture: within it the results are the same, beyond it the model was not trained.
    ...(typeof configValue(config, "sliding_window") === "number" && {
      context_length: Math.min(configNumber(config, "sliding_window"), configNumber(config, "max_position_embeddings")),
    }),
  }),
  sideValues: (config) => ropeSideValues(config, headDimOf(config)),
  change: (name, config) => {
    if (name.includes(".q_proj.")) return rotaryNeighbours(configNumber(config, "num_attention_heads"));
    if (name.includes(".k_proj.")) return rotaryNeighbours(keyValueHeadsOf(config));
    return undefined;
  },
};

/** Number of key-value heads of a `config.json`, all heads where it says nothing. */
export function keyValueHeadsOf(config: ModelConfig): number {
  return configNumber(config, "num_key_value_heads", configNumber(config, "num_attention_heads"));
}

/** Number and size of heads. */
export function keyValueMetadata(config: ModelConfig) {
  const headDim = headDimOf(config);
  return {
    "attention.head_count_kv": keyValueHeadsOf(config),
    "attention.key_length": headDim, "attention.value_length": headDim,
  };
}
