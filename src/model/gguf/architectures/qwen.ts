import { ConfigError } from "../../../errors.ts";
import type { ModelConfig } from "../../families/family.ts";
import type { GgufArchitecture } from "../architecture.ts";
import { ropeConfig, ropeMetadata } from "../rope.ts";
import { headDimIn, keyValueHeads, keyValueMetadata, LLAMA_COUNTS, LLAMA_LAYER_TENSORS, LLAMA_TENSORS } from "./llama.ts";

/** Qwen 2 and 2.5: Llama with biases on query, key and value. */
export const qwen2: GgufArchitecture = {
  name: "qwen2", modelTypes: ["qwen2"], className: "Qwen2ForCausalLM",
  counts: LLAMA_COUNTS,
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps" },
  fixed: { hidden_act: ["silu"], use_sliding_window: [false] },
  tensors: LLAMA_TENSORS, layerPrefix: "model.layers", layerTensors: LLAMA_LAYER_TENSORS,
  config: (facts) => ({ num_key_value_heads: keyValueHeads(facts), ...ropeConfig(facts, headDimIn(facts)) }),
  metadata: (config) => ({ ...keyValueMetadata(config), ...unscaledRope(config) }),
};

/** Qwen 3: norms on query and key instead of biases. */
export const qwen3: GgufArchitecture = {
  ...qwen2,
  name: "qwen3", modelTypes: ["qwen3"], className: "Qwen3ForCausalLM",
  fixed: { ...qwen2.fixed, attention_bias: [false] },
  layerTensors: { ...LLAMA_LAYER_TENSORS, attn_q_norm: "self_attn.q_norm", attn_k_norm: "self_attn.k_norm" },
  config: (facts) => ({ ...qwen2.config(facts), head_dim: headDimIn(facts) }),
};

/** Rotary positions of an architecture that has no tensor of divisors. */
export function unscaledRope(config: ModelConfig) {
  const metadata = ropeMetadata(config);
  const { rope_type: type } = (config.rope_parameters ?? config.rope_scaling ?? {}) as ModelConfig;
  if (type === "llama3") {
    throw new ConfigError(`config.json: rope type "llama3" cannot be exported to GGUF for ${String(config.model_type)}`);
  }
  return metadata;
}
