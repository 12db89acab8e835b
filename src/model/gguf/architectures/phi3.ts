import { ConfigError } from "../../../errors.ts";
import type { ModelConfig } from "../../families/family.ts";
import { configNumber, configValue, type GgufArchitecture, type GgufFacts } from "../architecture.ts";
import { float32, type GgufValue, shortDecimal } from "../metadata.ts";
import { ropeSettings } from "../rope.ts";
import { headDimOf, keyValueHeads, keyValueHeadsOf, LLAMA_COUNTS, LLAMA_TENSORS } from "./llama.ts";

const LONG = "rope_factors_long.weight", SHORT = "rope_factors_short.weight";

/** Phi 3, 3.5 and 4 mini: query, key and value in one matrix, gate and up in another. */
export const phi3: GgufArchitecture = {
  name: "phi3", modelTypes: ["phi3"], className: "Phi3ForCausalLM",
  counts: LLAMA_COUNTS,
  fractions: { "attention.layer_norm_rms_epsilon": "rms_norm_eps" },
  fixed: { hidden_act: ["silu"] },
  tensors: LLAMA_TENSORS, layerPrefix: "model.layers",
  layerTensors: {
    attn_norm: "input_layernorm", attn_qkv: "self_attn.qkv_proj", attn_output: "self_attn.o_proj",
    ffn_norm: "post_attention_layernorm", ffn_up: "mlp.gate_up_proj", ffn_down: "mlp.down_proj",
  },
  sideTensors: [LONG, SHORT],
  config,
  metadata,
  sideValues: (config) => {
    const { type, settings } = ropeSettings(config);
    if (type === "default") return new Map();
    const values = (key: string) => Float32Array.from(settings[key] as number[]);
    return new Map([[LONG, values("long_factor")], [SHORT, values("short_factor")]]);
  },
};

function config(facts: GgufFacts): Record<string, unknown> {
  const { metadata } = facts;
  const headDim = metadata.number("embedding_length") / metadata.number("attention.head_count");
  const rotary = metadata.optional("rope.dimension_count") ?? headDim;
  const [long, short] = [facts.side(LONG), facts.side(SHORT)];
  return {
    num_key_value_heads: keyValueHeads(facts), rope_theta: metadata.optional("rope.freq_base") ?? 10000,
    original_max_position_embeddings: metadata.optional("rope.scaling.original_context_length") ?? metadata.number("context_length"),
    // 0 stands for none.
    sliding_window: metadata.optional("attention.sliding_window") || null,
    ...(rotary !== headDim && { partial_rotary_factor: rotary / headDim }),
    ...(long && short && {
      rope_scaling: { type: "longrope", long_factor: Array.from(long, shortDecimal), short_factor: Array.from(short, shortDecimal) },
    }),
  };
}

function metadata(config: ModelConfig): Record<string, GgufValue> {
  const { theta, type, settings } = ropeSettings(config);
  if (type !== "default" && type !== "longrope" && type !== "su") {
    throw new ConfigError(
      `config.json: rope type ${JSON.stringify(type)} of phi3 cannot be exported to GGUF; expected default or longrope`,
    );
  }
  const headDim = headDimOf(config), positions = configNumber(config, "max_position_embeddings");
  const part = configNumber(settings, "partial_rotary_factor", configNumber(config, "partial_rotary_factor", 1));
  const original = configNumber(settings, "original_max_position_embeddings",
    configNumber(config, "original_max_position_embeddings", positions));
  const scale = positions / original;
  return {
    "attention.head_count_kv": keyValueHeadsOf(config), "rope.freq_base": float32(theta),
    "rope.dimension_count": Math.floor(headDim * part), "rope.scaling.original_context_length": original,
    "attention.sliding_window": Number(configValue(config, "sliding_window") ?? 0),
    ...(type !== "default" && {
      "rope.scaling.attn_factor": float32(scale > 1 ? Math.sqrt(1 + Math.log(scale) / Math.log(original)) : 1),
    }),
  };
}
