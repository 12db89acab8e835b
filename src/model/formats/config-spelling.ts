import type { ModelConfig } from "../families/family.ts";

/**
 * A `config.json` that transformers 4 and 5 both understand. Version 5 reads the keys of version 4 (`torch_dtype`, `rope_theta`,
 * `rope_scaling`), but not the other way round, so the old keys are put beside the new ones (`dtype`, `rope_parameters`).
 */
export function bothSpellings(config: ModelConfig): ModelConfig {
  const dtype = config.dtype ?? config.torch_dtype;
  return { ...config, ...rotaryOfVersion4(config), ...(dtype === undefined ? {} : { dtype, torch_dtype: dtype }) };
}

/** What of `rope_parameters` version 4 has under names of its own. */
function rotaryOfVersion4({ rope_parameters: parameters, model_type: modelType }: ModelConfig): ModelConfig {
  if (!isRecord(parameters)) return {};
  // Gemma 3 has other positions in layers with a window.
  const { full_attention: full, sliding_attention: sliding } = parameters;
  if (isRecord(full) && isRecord(sliding)) {
    return { rope_theta: full.rope_theta, rope_local_base_freq: sliding.rope_theta, rope_scaling: scaling(full) };
  }
  const { rope_theta: theta, partial_rotary_factor: partial } = parameters;
  const isNeox = modelType === "gpt_neox";
  return {
    ...(theta === undefined ? {} : { [isNeox ? "rotary_emb_base" : "rope_theta"]: theta }),
    ...(partial === undefined ? {} : { [isNeox ? "rotary_pct" : "partial_rotary_factor"]: partial }),
    rope_scaling: scaling(parameters),
  };
}

/** Version 4's record of a change of the angles, null where there is none. */
function scaling({ rope_theta: _theta, partial_rotary_factor: _partial, rope_type: kind, ...rest }: ModelConfig): ModelConfig | null {
  if (kind === undefined || kind === "default") return null;
  // Phi-3's record must have these three and nothing else; the length that it starts from stands beside it.
  if (kind === "longrope") return { type: kind, short_factor: rest.short_factor, long_factor: rest.long_factor };
  return { rope_type: kind, ...rest };
}

/**
 * The text of a configuration. JavaScript writes 30.0 as 30, which transformers 5 refuses, and version 4 warns of, in fields that it
 * declares as float; so those keep their point.
 */
export function configText(config: ModelConfig): string {
  return `${JSON.stringify(config, null, 2).replace(wholeFloat, "$&.0")}\n`;
}

/** A whole number in a line of its own, under the name of a float. */
const wholeFloat = new RegExp(
  `^ *"(?:${[
    "[a-z_]+_softcapping", "[a-z_]+_eps(?:ilon)?", "initializer_range", "init_std", "rope_theta", "rope_local_base_freq",
    "(?:[a-z_]+_)?factor", "rotary_pct", "beta_fast", "beta_slow", "mscale(?:_all_dim)?", "temperature", "repetition_penalty",
  ].join("|")})": -?\\d+(?=,?$)`,
  "gm",
);

function isRecord(value: unknown): value is ModelConfig {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
