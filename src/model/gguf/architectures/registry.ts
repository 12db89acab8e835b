import { CheckpointError, ConfigError } from "../../../errors.ts";
import type { ModelConfig } from "../../families/family.ts";
import type { GgufArchitecture } from "../architecture.ts";
import { bloom } from "./bloom.ts";
import { falcon } from "./falcon.ts";
import { gemma, gemma2, gemma3 } from "./gemma.ts";
import { gpt2 } from "./gpt2.ts";
import { gptNeox } from "./gpt-neox.ts";
import { llama } from "./llama.ts";
import { phi3 } from "./phi3.ts";
import { qwen2, qwen3 } from "./qwen.ts";
import { stableLm } from "./stablelm.ts";

const architectures: readonly GgufArchitecture[] = [
  llama, qwen2, qwen3, gemma, gemma2, gemma3, phi3, gpt2, gptNeox, bloom, falcon, stableLm,
];

/** The architecture that a file states. @throws {CheckpointError} for another, naming it and those that can be read */
export function architectureOf(name: unknown, source: string): GgufArchitecture {
  const found = architectures.find((known) => known.name === name);
  if (found) return found;
  throw new CheckpointError(
    `${source}: architecture ${JSON.stringify(name) ?? "(missing)"} is not supported in a GGUF file, ` +
      `expected one of ${architectures.map((known) => known.name).join(", ")}; use the Hugging Face folder if tschat runs the family`,
  );
}

/** The architecture that holds a model. @throws {ConfigError} for a model that cannot be exported, naming those that can */
export function exportArchitecture({ model_type: type }: ModelConfig, source: string): GgufArchitecture {
  const found = architectures.find(({ modelTypes }) => (modelTypes as readonly unknown[]).includes(type));
  if (found) return found;
  throw new ConfigError(
    `${source}: model_type ${JSON.stringify(type) ?? "(missing)"} cannot be exported to GGUF, ` +
      `expected one of ${architectures.flatMap(({ modelTypes }) => modelTypes).join(", ")}`,
  );
}
