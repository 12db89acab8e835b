import { ConfigError } from "../../../errors.ts";
import type { ModelConfig } from "../../families/family.ts";
import { configNumber, configValue, type GgufArchitecture, type GgufFacts } from "../architecture.ts";
import { float32, type GgufValue } from "../metadata.ts";
import { plainScaling, ropeMetadata } from "../rope.ts";
import type { ValueChange } from "../value-change.ts";
import { headDimIn, headDimOf, keyValueHeads, keyValueMetadata, LLAMA_COUNTS, LLAMA_LAYER_TENSORS, LLAMA_TENSORS } from "./llama.ts";

const LAYER_TENSORS = {
  ...LLAMA_LAYER_TENSORS,
  post_attention_norm: "post_attention_layernorm", ffn_norm: "pre_feedforward_layernorm", post_ffw_norm: "post_feedforward_layernorm",
};

const SOFTCAPS = { attn_logit_softcapping: "attn_logit_softcapping", final_logit_softcapping: "final_logit_softcapping" };

/** Gemma 1: Llama with wider heads, another activation, and norms that multiply by 1 + weight. */
export const gemma: GgufArchitecture = {
  name: "gemma", modelTypes: ["gemma"], className: "GemmaForCausalLM",
  counts: LLAMA_COUNTS,
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps" },
  // Old configurations say "gelu" in "hidden_act" and mean the tanh form.
  fixed: { hidden_activation: ["gelu_pytorch_tanh"], attention_bias: [false] },
  tensors: LLAMA_TENSORS, layerPrefix: "model.layers", layerTensors: LLAMA_LAYER_TENSORS,
  config: (facts) => ({
    num_key_value_heads: keyValueHeads(facts), head_dim: headDimIn(facts), rope_theta: facts.metadata.optional("rope.freq_base") ?? 10000,
  }),
  metadata: (config) => ({ ...keyValueMetadata(config), ...ropeMetadata(config) }),
  change: withoutOne,
};

/** Gemma multiplies by 1 + weight, llama.cpp by what stands in the file. */
function withoutOne(name: string): ValueChange | undefined {
  return name.endsWith("norm.weight") ? { kind: "shift", by: 1 } : undefined;
}

/** Gemma 2: norms around both parts of a layer, capped logits, every second layer sees a window only. */
export const gemma2: GgufArchitecture = {
  name: "gemma2", modelTypes: ["gemma2"], className: "Gemma2ForCausalLM",
  counts: { ...LLAMA_COUNTS, "attention.sliding_window": "sliding_window" },
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps", ...SOFTCAPS },
  fixed: { hidden_activation: ["gelu_pytorch_tanh"], attention_bias: [false] },
  tensors: LLAMA_TENSORS, layerPrefix: "model.layers", layerTensors: LAYER_TENSORS,
  config: (facts) => ({
    ...common(facts, { largest: 46, every: 2 }), rope_theta: facts.metadata.optional("rope.freq_base") ?? 10000,
  }),
  metadata: (config) => ({ ...commonMetadata(config, { largest: 46, every: 2 }), ...ropeMetadata(config) }),
  change: withoutOne,
};

/** Gemma 3's text model: norms on query and key, every sixth layer sees everything, with a larger rotary base. */
export const gemma3: GgufArchitecture = {
  ...gemma2,
  name: "gemma3", modelTypes: ["gemma3_text"], className: "Gemma3ForCausalLM",
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps" },
  fixed: { ...gemma2.fixed, attn_logit_softcapping: [null], use_bidirectional_attention: [false] },
  layerTensors: { ...LAYER_TENSORS, attn_q_norm: "self_attn.q_norm", attn_k_norm: "self_attn.k_norm" },
  config: (facts) => {
    const { metadata } = facts;
    const scaling = plainScaling(metadata);
    return {
      ...common(facts, { largest: 62, every: 6 }), rope_theta: metadata.optional("rope.freq_base") ?? 1_000_000,
      rope_local_base_freq: metadata.optional("rope.freq_base_swa") ?? 10000, ...(scaling && { rope_scaling: scaling }),
      final_logit_softcapping: metadata.optional("final_logit_softcapping") ?? null,
    };
  },
  metadata: (config) => {
    const { rope_parameters: parameters, ...rest } = config;
    const { full_attention: full, sliding_attention: local } = (parameters ?? {}) as Record<string, ModelConfig | undefined>;
    const cap = configValue(config, "final_logit_softcapping");
    const localTheta = configNumber(local ?? {}, "rope_theta", configNumber(config, "rope_local_base_freq", 10000));
    return {
      ...commonMetadata(config, { largest: 62, every: 6 }),
      ...ropeMetadata(full === undefined ? { rope_theta: 1_000_000, ...config } : { ...rest, rope_parameters: full }),
      "rope.freq_base_swa": float32(localTheta), ...(typeof cap === "number" && { final_logit_softcapping: float32(cap) }),
    };
  },
};

/**
 * What no file says. Queries are divided by sqrt(headDim), in the largest model, which llama.cpp knows by its number of layers, by
 * sqrt(hidden / heads). Every layer number `every` sees everything.
 */
interface Variant {
  largest: number;
  every: number;
}

function common(facts: GgufFacts, { largest, every }: Variant): Record<string, unknown> {
  const { metadata } = facts;
  const layers = metadata.number("block_count"), headDim = headDimIn(facts);
  const perHead = metadata.number("embedding_length") / metadata.number("attention.head_count");
  return {
    num_key_value_heads: keyValueHeads(facts), head_dim: headDim, query_pre_attn_scalar: layers === largest ? perHead : headDim,
    layer_types: layerTypes(layers, every),
  };
}

function layerTypes(layers: number, every: number): string[] {
  return Array.from({ length: layers }, (_, layer) => ((layer + 1) % every === 0 ? "full_attention" : "sliding_attention"));
}

function commonMetadata(config: ModelConfig, { largest, every }: Variant): Record<string, GgufValue> {
  const layers = configNumber(config, "num_hidden_layers"), headDim = headDimOf(config);
  const scale = layers === largest ? configNumber(config, "hidden_size") / configNumber(config, "num_attention_heads") : headDim;
  if (configNumber(config, "query_pre_attn_scalar", scale) !== scale) {
    const found = String(config.query_pre_attn_scalar);
    throw new ConfigError(`config.json: "query_pre_attn_scalar" is ${found}, llama.cpp computes with ${scale}`);
  }
  const pattern = configNumber(config, "sliding_window_pattern|_sliding_window_pattern", every);
  const types = (configValue(config, "layer_types") ?? layerTypes(layers, pattern)) as unknown[];
  if (types.join() !== layerTypes(layers, every).join()) {
    throw new ConfigError(
      `config.json: "layer_types": llama.cpp has full attention in layers ${every}, ${2 * every}, ..., found ${types.join(", ")}`,
    );
  }
  return { ...keyValueMetadata(config), "attention.sliding_window": configNumber(config, "sliding_window", 4096) };
}
