import { CheckpointError } from "../../errors.ts";
import type { Family, ModelConfig } from "./family.ts";
import { llama } from "./llama.ts";
import { opt } from "./opt.ts";

const families: readonly Family[] = [llama, opt];

/**
 * The family that reads this configuration.
 *
 * @throws {CheckpointError} when `model_type` is missing or of no known family
 */
export function familyOf(config: ModelConfig, file: string): Family {
  const family = families.find((known) => known.modelType === config.model_type);
  if (family) return family;
  const found = config.model_type === undefined ? "no model_type" : `model_type ${JSON.stringify(config.model_type)}`;
  const names = families.map((known) => `"${known.modelType}"`).join(", ");
  throw new CheckpointError(`${file}: ${found}; tschat runs ${names}: choose a model of one of these families`);
}
