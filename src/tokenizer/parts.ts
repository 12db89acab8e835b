import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";

/** What a tokenizer is made of, wherever it comes from. */
export interface TokenizerParts {
  /** Content of `tokenizer.json`. */
  tokenizerJson: string;
  /**
   * Content of `tokenizer_config.json`: `bos_token`, `eos_token`, `pad_token`, `unk_token`, `padding_side`, `chat_template`, ...
   * A special token may be given by number instead (`eos_token_id`), as in `generation_config.json`.
   */
  config: Record<string, unknown>;
  /** Jinja text; goes before `config.chat_template`. */
  chatTemplate?: string;
  /** Rows of the model's embedding, where the checkpoint says so: no token of a conversation may lie behind them. */
  modelVocabSize?: number;
}

/** The special tokens that have a role, as `tokenizer_config.json` calls them. */
export const SPECIAL_TOKEN_KEYS = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;

/** Writes the files that `readTokenizerFolder` (folder.ts) and transformers' `AutoTokenizer` read; makes the folder if needed. */
export async function writeTokenizerFolder(folder: string, parts: Required<Omit<TokenizerParts, "modelVocabSize">>): Promise<void> {
  const { tokenizerJson, chatTemplate } = parts;
  const config: Record<string, unknown> = { tokenizer_class: "PreTrainedTokenizerFast", ...parts.config, chat_template: chatTemplate };
  for (const key of SPECIAL_TOKEN_KEYS) delete config[`${key}_id`];
  // They stand in tokenizer.json now.
  delete config["added_tokens_decoder"];
  const map = Object.fromEntries(SPECIAL_TOKEN_KEYS.filter((key) => config[key] != null).map((key) => [key, config[key]]));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "tokenizer.json"), tokenizerJson);
  await writeFile(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeFile(join(folder, "special_tokens_map.json"), `${JSON.stringify(map, null, 2)}\n`);
  await writeFile(join(folder, "chat_template.jinja"), chatTemplate);
}

/** @throws {CheckpointError} naming `source` for a text that is not a JSON object */
export function parseJsonObject(text: string, source: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`${source}: is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new CheckpointError(`${source}: expected a JSON object, found ${Array.isArray(value) ? "an array" : JSON.stringify(value)}`);
}
