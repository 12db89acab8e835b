import { readFileSync } from "node:fs";
import { CheckpointError } from "../../errors.ts";
import { explainForeign } from "../../tensor/file-parts.ts";
import type { ModelConfig } from "../families/family.ts";

/**
 * Parses a JSON file that must hold an object.
 *
 * @throws {CheckpointError} when it cannot be read, is no JSON or holds something else
 */
export function readJsonObject(path: string): ModelConfig {
  let text = "", value: unknown;
  try {
    text = readFileSync(path, "utf8");
    value = JSON.parse(text);
  } catch (cause) {
    const foreign = explainForeign(text.slice(0, 64));
    throw new CheckpointError(`${path}: ${foreign ?? `cannot be read as JSON: ${(cause as Error).message}`}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as ModelConfig;
  throw new CheckpointError(`${path}: expected a JSON object`);
}
