import { ConfigError } from "../../errors.ts";
import type { RotaryScaling, RotarySpec } from "../../nn/rotary.ts";
import { ConfigReader } from "./config-reader.ts";

/** What a family knows about its rotary positions besides the configuration. */
interface RotaryDefaults {
  headDim: number;
  maxPositions: number;
  theta?: number;
  /** Share of a head that is rotated. */
  share?: number;
  /** A record of its own for layers of one type, as transformers 5 writes for Gemma 3. */
  layerType?: string;
}

/**
 * transformers 5 writes `rope_parameters`; older files have `rope_theta` and `rope_scaling` (whose type was first called `type`), and
 * `partial_rotary_factor` beside them.
 */
export function rotaryOf(top: ConfigReader, { headDim, maxPositions, theta = 10000, share = 1, layerType }: RotaryDefaults): RotarySpec {
  const none = new ConfigReader({});
  const all = top.nested("rope_parameters") ?? none;
  const read = (layerType !== undefined && all.nested(layerType)) || (all.has("rope_theta") || all.has("rope_type") ? all : none);
  const old = top.nested("rope_scaling");
  const scaled = read.has("rope_type") ? read : old ?? read;
  const part = read.number("partial_rotary_factor", top.number("partial_rotary_factor", share));
  const dims = Math.floor(headDim * part);
  if (dims % 2 !== 0 || dims === 0) {
    throw new ConfigError(`config.json: rotary positions need an even number of elements, found ${dims} of ${headDim} in a head`);
  }
  const base = read.number("rope_theta", top.number("rope_theta", theta));
  const spec = { dims, theta: base, scaling: scalingOf(scaled, top, dims, maxPositions) };
  scaled.refuseUnknown(`rope type ${JSON.stringify(kindOf(scaled))}`);
  return spec;
}

function kindOf(read: ConfigReader): string {
  const names = ["default", "linear", "dynamic", "llama3", "yarn", "longrope", "su"];
  return read.choice(read.has("rope_type") ? "rope_type" : "type", Object.fromEntries(names.map((name) => [name, name])), "default");
}

function scalingOf(read: ConfigReader, top: ConfigReader, dims: number, maxPositions: number): RotaryScaling {
  switch (kindOf(read)) {
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
    case "longrope":
    case "su": {
      // Beyond the original length every position changes to the long factors, those before it too; the family refuses such lengths.
      const original = originalLength(read, top, maxPositions), stretch = read.number("factor", maxPositions / original);
      read.numbers("long_factor", dims / 2);
      return {
        kind: "longrope", factors: read.numbers("short_factor", dims / 2),
        attentionFactor: read.number("attention_factor", stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(original))),
      };
    }
    // Dynamic NTK changes nothing up to max_position_embeddings, and longer sequences are refused.
    default:
      read.ignore("factor", "original_max_position_embeddings");
      return { kind: "none" };
  }
}

/** Tokens that a model with LongRoPE was pretrained on. */
export function originalLength(read: ConfigReader, top: ConfigReader, maxPositions: number): number {
  return read.count("original_max_position_embeddings", top.count("original_max_position_embeddings", maxPositions));
}
