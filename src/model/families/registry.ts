import { CheckpointError } from "../../errors.ts";
import { bloom } from "./bloom.ts";
import { falcon } from "./falcon.ts";
import type { Family, ModelConfig } from "./family.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gpt2 } from "./gpt2.ts";
import { gptNeo } from "./gpt-neo.ts";
import { gptNeox } from "./gpt-neox.ts";
import { gptj } from "./gptj.ts";
import { llama } from "./llama.ts";
import { mistral } from "./mistral.ts";
import { opt } from "./opt.ts";
import { phi3 } from "./phi3.ts";
import { qwen2, qwen3 } from "./qwen.ts";
import { stablelm } from "./stablelm.ts";

/** In the order of messages. */
export const families: readonly Family[] = [
  llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3, phi3, stablelm, opt, bloom, gpt2, gptj, gptNeo, gptNeox, falcon,
];

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
