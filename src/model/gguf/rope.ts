import { CheckpointError, ConfigError } from "../../errors.ts";
import type { ModelConfig } from "../families/family.ts";
import { configNumber, type GgufFacts } from "./architecture.ts";
import { float32, type GgufMetadata, type GgufValue } from "./metadata.ts";

/** The tensor of Llama 3's divisors of the rotary frequencies. */
export const ROPE_FREQUENCIES = "rope_freqs.weight";

/** Llama 3.1's and 3.2's settings; GGUF keeps only the divisors that follow from them, not the settings themselves. */
const LLAMA3_SCALING = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };

/** Keys of the metadata that only YaRN has -> keys of `rope_scaling`. */
const YARN = { yarn_attn_factor: "attention_factor", yarn_beta_fast: "beta_fast", yarn_beta_slow: "beta_slow" };

/** `rope_theta` and `rope_scaling` as the file states them. @throws {CheckpointError} for divisors that are not Llama 3's */
export function ropeConfig(facts: GgufFacts, headDim: number): Record<string, unknown> {
  const { metadata } = facts;
  const theta = metadata.optional("rope.freq_base") ?? 10000;
  const factors = facts.side(ROPE_FREQUENCIES);
  const scaling = factors === undefined ? plainScaling(metadata) : llama3Scaling(factors, { theta, headDim, source: metadata.source });
  return { rope_theta: theta, ...(scaling && { rope_scaling: scaling }) };
}

/** The scaling that the metadata states: linear or yarn. */
export function plainScaling(metadata: GgufMetadata): object | undefined {
  const type = metadata.text("rope.scaling.type");
  if (type === undefined || type === "none") return undefined;
  const factor = metadata.optional("rope.scaling.factor");
  if (factor === undefined) {
    throw new CheckpointError(
      `${metadata.source}: ${metadata.key("rope.scaling.type")} is ${type}, but ${metadata.key("rope.scaling.factor")} is missing`,
    );
  }
  const original = metadata.optional("rope.scaling.original_context_length");
  const yarn = Object.entries(YARN).map(([name, key]) => [key, metadata.optional(`rope.scaling.${name}`)]);
  return {
    rope_type: type, factor, ...(original !== undefined && { original_max_position_embeddings: original }),
    ...(type === "yarn" && Object.fromEntries(yarn.filter(([, value]) => value !== undefined))),
  };
}

/**
 * The `llama3` scaling whose divisors are `factors`: the lowest frequencies are divided by the whole factor.
 * Settings other than Meta's give other divisors, and are refused rather than guessed.
 */
function llama3Scaling(factors: Float32Array, rotary: { theta: number; headDim: number; source: string }): object {
  const { theta, headDim, source } = rotary;
  const factor = Math.max(...factors);
  const expected = llama3Divisors({ theta, headDim, factor, ...LLAMA3_SCALING });
  const isExpected = (found: number, index: number) => Math.abs(found - (expected[index] ?? 0)) <= 1e-3 * found;
  if (factors.length === headDim / 2 && factors.every(isExpected)) return { rope_type: "llama3", factor, ...LLAMA3_SCALING };
  throw new CheckpointError(
    `${source}: ${ROPE_FREQUENCIES}: expected the frequency factors of Llama 3's rotary scaling, found others; ` +
      "use the Hugging Face folder",
  );
}

/** [headDim / 2] numbers that Llama 3 divides its rotary frequencies by. */
function llama3Divisors(settings: { theta: number; headDim: number; factor: number } & typeof LLAMA3_SCALING): Float32Array {
  const { theta, headDim, factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = settings;
  return Float32Array.from({ length: headDim / 2 }, (_, index) => {
    const wavelength = 2 * Math.PI * theta ** ((2 * index) / headDim);
    // 0 below the low bound (all of the factor), 1 above the high bound (none of it), straight between.
    const smooth = Math.min(1, Math.max(0, (original / wavelength - low) / (high - low)));
    return 1 / ((1 - smooth) / factor + smooth);
  });
}

/** Rotary settings of a `config.json` of transformers 4 (`rope_theta`, `rope_scaling`) or 5 (`rope_parameters`). */
export function ropeSettings(config: ModelConfig): { theta: number; type: string; settings: ModelConfig } {
  const settings = (config.rope_parameters ?? config.rope_scaling ?? {}) as ModelConfig;
  const type = String(settings.rope_type ?? settings.type ?? "default");
  return { theta: configNumber(settings, "rope_theta", configNumber(config, "rope_theta|rotary_emb_base", 10000)), type, settings };
}

/** Metadata of rotary positions. @throws {ConfigError} for a scaling that llama.cpp does not compute for the architecture */
export function ropeMetadata(config: ModelConfig): Record<string, GgufValue> {
  const { theta, type, settings } = ropeSettings(config);
  const base = { "rope.freq_base": float32(theta) };
  switch (type) {
    case "default": case "llama3": return base;
    case "linear": return {
      ...base, "rope.scaling.type": "linear", "rope.scaling.factor": float32(configNumber(settings, "factor")),
    };
    case "yarn": {
      const original = configNumber(settings, "original_max_position_embeddings", configNumber(config, "max_position_embeddings"));
      const optional = Object.entries(YARN).filter(([, key]) => typeof settings[key] === "number");
      return {
        ...base, "rope.scaling.type": "yarn", "rope.scaling.factor": float32(configNumber(settings, "factor")),
        "rope.scaling.original_context_length": original,
        ...Object.fromEntries(optional.map(([name, key]) => [`rope.scaling.${name}`, float32(configNumber(settings, key))])),
      };
    }
    default: throw new ConfigError(
      `config.json: rope type ${JSON.stringify(type)} cannot be exported to GGUF; expected default, linear, llama3 or yarn`,
    );
  }
}

/** Llama 3's divisors, where the configuration has its scaling. */
export function ropeSideValues(config: ModelConfig, headDim: number): ReadonlyMap<string, Float32Array> {
  const { theta, type, settings } = ropeSettings(config);
  if (type !== "llama3") return new Map();
  const number = (key: keyof typeof LLAMA3_SCALING) => configNumber(settings, key, LLAMA3_SCALING[key]);
  const values = llama3Divisors({
    theta, headDim, factor: configNumber(settings, "factor"), low_freq_factor: number("low_freq_factor"),
    high_freq_factor: number("high_freq_factor"), original_max_position_embeddings: number("original_max_position_embeddings"),
  });
  return new Map([[ROPE_FREQUENCIES, values]]);
}
