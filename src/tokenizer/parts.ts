import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
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
}

/** The special tokens that have a role, as `tokenizer_config.json` calls them. */
export const SPECIAL_TOKEN_KEYS = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;

/**
 * Reads the tokenizer's files of a Hugging Face folder. What `tokenizer_config.json` does not mention comes from
 * `special_tokens_map.json`, and then, as a number, from `generation_config.json` or `config.json`.
 *
 * @throws {CheckpointError} for a folder without `tokenizer.json`, and for a file that is not JSON
 */
export async function readTokenizerFolder(folder: string): Promise<TokenizerParts> {
  const tokenizerJson = await readOptional(join(folder, "tokenizer.json"));
  if (tokenizerJson === undefined) {
    const found = (await isFolder(folder)) ? "the folder has no tokenizer.json" : "there is no such folder or .gguf file";
    throw new CheckpointError(`${folder}: cannot load a tokenizer: ${found}; give a model folder with tokenizer.json, or a .gguf file`);
  }
  const config = await readOptionalJson(join(folder, "tokenizer_config.json"));
  const map = await readOptionalJson(join(folder, "special_tokens_map.json"));
  const generation = await readOptionalJson(join(folder, "generation_config.json"));
  const model = await readOptionalJson(join(folder, "config.json"));
  for (const key of SPECIAL_TOKEN_KEYS) {
    if (config[key] !== undefined) continue;
    if (map[key] !== undefined) config[key] = map[key];
    else config[`${key}_id`] ??= generation[`${key}_id`] ?? model[`${key}_id`];
  }
  const chatTemplate = await readOptional(join(folder, "chat_template.jinja"));
  return { tokenizerJson, config, ...(chatTemplate === undefined ? {} : { chatTemplate }) };
}

/** Writes the files that `readTokenizerFolder` and transformers' `AutoTokenizer` read; makes the folder if needed. */
export async function writeTokenizerFolder(folder: string, parts: Required<TokenizerParts>): Promise<void> {
  const { tokenizerJson, chatTemplate } = parts;
  const config: Record<string, unknown> = { tokenizer_class: "PreTrainedTokenizerFast", ...parts.config, chat_template: chatTemplate };
  for (const key of SPECIAL_TOKEN_KEYS) delete config[`${key}_id`];
  const map = Object.fromEntries(SPECIAL_TOKEN_KEYS.filter((key) => config[key] != null).map((key) => [key, config[key]]));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "tokenizer.json"), tokenizerJson);
  await writeFile(join(folder, "tokenizer_config.json"), `${JSON.stringify(config, null, 2)}\n`);
  await writeFile(join(folder, "special_tokens_map.json"), `${JSON.stringify(map, null, 2)}\n`);
  await writeFile(join(folder, "chat_template.jinja"), chatTemplate);
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}

/** Undefined for a file that is not there; any other failure to read is an error. */
async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new CheckpointError(`${path}: cannot be read: ${code ?? String(cause)}`, { cause });
  }
}

async function readOptionalJson(path: string): Promise<Record<string, unknown>> {
  const text = await readOptional(path);
  return text === undefined ? {} : parseJsonObject(text, path);
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
