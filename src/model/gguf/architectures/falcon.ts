import type { ModelConfig } from "../../families/family.ts";
import { configNumber, type GgufArchitecture } from "../architecture.ts";
import { float32 } from "../metadata.ts";
import { ropeSettings } from "../rope.ts";
import { groupedHeads } from "../value-change.ts";

const HEADS = "num_attention_heads|n_head";
const SECOND_NORM = "transformer.h.0.ln_attn.weight";

/** Falcon 7B (one key-value head, one norm a layer), 40B and 180B (groups of heads, two norms) and 11B (groups, one norm). */
export const falcon: GgufArchitecture = {
  name: "falcon", modelTypes: ["falcon"], className: "FalconForCausalLM",
  counts: { embedding_length: "hidden_size", block_count: "num_hidden_layers|n_layer", "attention.head_count": HEADS },
  fractions: { "attention.layer_norm_epsilon": "layer_norm_epsilon" },
  fixed: { alibi: [false], bias: [false], parallel_attn: [true], activation: ["gelu"] },
  tensors: {
    "token_embd.weight": "transformer.word_embeddings.weight", "output_norm.weight": "transformer.ln_f.weight",
    "output_norm.bias": "transformer.ln_f.bias", "output.weight": "lm_head.weight",
  },
  layerPrefix: "transformer.h",
  layerTensors: {
    attn_norm: "input_layernorm", attn_norm_2: "ln_attn", attn_qkv: "self_attention.query_key_value",
    attn_output: "self_attention.dense", ffn_up: "mlp.dense_h_to_4h", ffn_down: "mlp.dense_4h_to_h",
  },
  // With two norms the first is the MLP's.
  aliases: { ln_mlp: "input_layernorm" }, usesAliases: (has) => has("blk.0.attn_norm_2.weight"),
  config: (facts) => {
    const { metadata } = facts;
    metadata.expect("feed_forward_length", 4 * metadata.number("embedding_length"), "Falcon's MLP is four times as wide as its layers");
    const groups = metadata.optional("attention.head_count_kv") ?? 1;
    const grouped = groups > 1 || facts.has(SECOND_NORM);
    return {
      new_decoder_architecture: grouped, multi_query: !grouped, num_kv_heads: groups,
      num_ln_in_parallel_attn: facts.has(SECOND_NORM) ? 2 : 1, rope_theta: metadata.optional("rope.freq_base") ?? 10000,
      max_position_embeddings: metadata.number("context_length"),
    };
  },
  metadata: (config) => ({
    context_length: configNumber(config, "max_position_embeddings", 2048),
    feed_forward_length: configNumber(config, "ffn_hidden_size", 4 * configNumber(config, "hidden_size")),
    "attention.head_count_kv": groups(config), "rope.freq_base": float32(ropeSettings(config).theta),
    tensor_data_layout: "jploski",
  }),
  change: (name, config) =>
    name.includes(".query_key_value.") ? groupedHeads(configNumber(config, HEADS), groups(config)) : undefined,
};

function groups(config: ModelConfig): number {
  if (config.new_decoder_architecture === true) return configNumber(config, "num_kv_heads|n_head_kv", configNumber(config, HEADS));
  return config.multi_query === false ? configNumber(config, HEADS) : 1;
}
