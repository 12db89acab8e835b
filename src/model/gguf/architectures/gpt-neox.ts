import { configNumber, type GgufArchitecture } from "../architecture.ts";
import { float32 } from "../metadata.ts";
import { ropeSettings } from "../rope.ts";
import { groupedHeads } from "../value-change.ts";

/** GPT-NeoX and Pythia. */
export const gptNeox: GgufArchitecture = {
  name: "gptneox", modelTypes: ["gpt_neox"], className: "GPTNeoXForCausalLM",
  counts: {
    embedding_length: "hidden_size", feed_forward_length: "intermediate_size", block_count: "num_hidden_layers",
    "attention.head_count": "num_attention_heads", context_length: "max_position_embeddings",
  },
  fractions: { "attention.layer_norm_epsilon": "layer_norm_eps" },
  // llama.cpp computes the tanh form of GELU; the difference is below 0.001.
  fixed: { hidden_act: ["gelu", "gelu_new", "gelu_fast"], attention_bias: [true] },
  tensors: {
    "token_embd.weight": "gpt_neox.embed_in.weight", "output_norm.weight": "gpt_neox.final_layer_norm.weight",
    "output_norm.bias": "gpt_neox.final_layer_norm.bias", "output.weight": "embed_out.weight",
  },
  layerPrefix: "gpt_neox.layers",
  layerTensors: {
    attn_norm: "input_layernorm", attn_qkv: "attention.query_key_value", attn_output: "attention.dense",
    ffn_norm: "post_attention_layernorm", ffn_up: "mlp.dense_h_to_4h", ffn_down: "mlp.dense_4h_to_h",
  },
  needsHead: true,
  config: ({ metadata }) => {
    const headDim = metadata.number("embedding_length") / metadata.number("attention.head_count");
    return {
      rotary_pct: (metadata.optional("rope.dimension_count") ?? headDim) / headDim,
      rotary_emb_base: metadata.optional("rope.freq_base") ?? 10000, use_parallel_residual: metadata.boolean("use_parallel_residual", true),
    };
  },
  metadata: (config) => {
    const { theta, settings } = ropeSettings(config);
    const headDim = configNumber(config, "hidden_size") / configNumber(config, "num_attention_heads");
    const part = configNumber(settings, "partial_rotary_factor", configNumber(config, "rotary_pct", 0.25));
    return {
      "rope.dimension_count": Math.floor(headDim * part), "rope.freq_base": float32(theta),
      use_parallel_residual: config.use_parallel_residual !== false,
    };
  },
  change: (name, config) => {
    const heads = configNumber(config, "num_attention_heads");
    return name.includes(".query_key_value.") ? groupedHeads(heads, heads) : undefined;
  },
};
