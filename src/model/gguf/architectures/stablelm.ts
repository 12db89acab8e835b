import { configNumber, type GgufArchitecture } from "../architecture.ts";
import { float32 } from "../metadata.ts";
import { ropeSettings } from "../rope.ts";
import { keyValueHeads, keyValueHeadsOf, LLAMA_COUNTS, LLAMA_LAYER_TENSORS, LLAMA_TENSORS } from "./llama.ts";

/** StableLM 3B and StableLM 2 1.6B; the norms on query and key of StableLM 2 12B are refused as unexpected tensors. */
export const stableLm: GgufArchitecture = {
  name: "stablelm", modelTypes: ["stablelm"], className: "StableLmForCausalLM",
  counts: LLAMA_COUNTS,
  fractions: { "attention.layer_norm_epsilon": "layer_norm_eps" },
  fixed: { hidden_act: ["silu"], qk_layernorm: [false] },
  tensors: { ...LLAMA_TENSORS, "output_norm.bias": "model.norm.bias" }, layerPrefix: "model.layers", layerTensors: LLAMA_LAYER_TENSORS,
  needsHead: true,
  config: (facts) => {
    const { metadata } = facts;
    const headDim = metadata.number("embedding_length") / metadata.number("attention.head_count");
    return {
      num_key_value_heads: keyValueHeads(facts), partial_rotary_factor: (metadata.optional("rope.dimension_count") ?? headDim) / headDim,
      rope_theta: metadata.optional("rope.freq_base") ?? 10000, use_qkv_bias: facts.has("model.layers.0.self_attn.q_proj.bias"),
      // As llama.cpp does, whatever the key of this name says.
      use_parallel_residual: !facts.has("model.layers.0.post_attention_layernorm.weight"),
    };
  },
  metadata: (config) => {
    const { theta, settings } = ropeSettings(config);
    const headDim = configNumber(config, "hidden_size") / configNumber(config, "num_attention_heads");
    const part = configNumber(settings, "partial_rotary_factor", configNumber(config, "partial_rotary_factor", 0.25));
    return {
      "attention.head_count_kv": keyValueHeadsOf(config), "rope.dimension_count": Math.floor(headDim * part),
      "rope.freq_base": float32(theta), use_parallel_residual: config.use_parallel_residual === true,
    };
  },
};
