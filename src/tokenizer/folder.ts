import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { CheckpointError, ConfigError } from "../errors.ts";
import { parseJsonObject, SPECIAL_TOKEN_KEYS, type TokenizerParts } from "./parts.ts";
import { convertSentencePiece } from "./sentencepiece.ts";
import { byteLevelJson, contentOf, type VocabularyContext, wordPieceJson } from "./vocabulary-files.ts";

/** Classes of SentencePiece tokenizers; all but Llama's without a choice about spaces. */
const SENTENCEPIECE_CLASSES = ["LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "PreTrainedTokenizer", "TokenizersBackend"];
const SENTENCEPIECE_MODELS = ["llama", "mistral", "mixtral", "gemma", "gemma2", "gemma3", "gemma3_text", "phi3"];

const TAKE = "take the tokenizer.json of the model's Hugging Face folder";
const CONVERT = 'convert it with Python: AutoTokenizer.from_pretrained("<folder>").save_pretrained("<folder>")';

/**
 * Reads the tokenizer's files of a Hugging Face folder: `tokenizer.json`, or what it can be made from, which are `vocab.json` with
 * `merges.txt`, `tokenizer.model` (SentencePiece) and `vocab.txt` (WordPiece). What `tokenizer_config.json` does not mention comes from
 * `special_tokens_map.json`, and then, as a number, from `generation_config.json` or `config.json`.
 *
 * @throws {CheckpointError} for a folder without a tokenizer, and for a file that is malformed
 * @throws {ConfigError} for a tokenizer of a kind that is not supported
 */
export async function readTokenizerFolder(folder: string): Promise<TokenizerParts> {
  const config = await readOptionalJson(join(folder, "tokenizer_config.json"));
  const map = await readOptionalJson(join(folder, "special_tokens_map.json"));
  const generation = await readOptionalJson(join(folder, "generation_config.json"));
  const model = await readOptionalJson(join(folder, "config.json"));
  for (const key of [...SPECIAL_TOKEN_KEYS, "additional_special_tokens"]) config[key] ??= map[key];
  const context = { config, modelType: model["model_type"], folder };
  const tokenizerJson = (await readOptional(join(folder, "tokenizer.json"))) ?? (await convertOther(context));
  for (const key of SPECIAL_TOKEN_KEYS) {
    if (config[key] === undefined) config[`${key}_id`] ??= generation[`${key}_id`] ?? model[`${key}_id`];
  }
  const chatTemplate = await readOptional(join(folder, "chat_template.jinja"));
  const text = (model["text_config"] ?? model) as Record<string, unknown>;
  const modelVocabSize = text["vocab_size"];
  return {
    tokenizerJson,
    config,
    ...(chatTemplate === undefined ? {} : { chatTemplate }),
    ...(typeof modelVocabSize === "number" ? { modelVocabSize } : {}),
  };
}

/** Whether a folder has any of the files that `readTokenizerFolder` can start from. */
export async function hasTokenizerFiles(folder: string): Promise<boolean> {
  const files: string[] = await readdir(folder).catch(() => []);
  return ["tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt"].some((file) => files.includes(file));
}

/** `tokenizer.json` from a folder's older files; adds to `config` what those say about special tokens. */
async function convertOther(context: VocabularyContext & { config: Record<string, unknown> }): Promise<string> {
  const { config, folder } = context;
  const files: string[] = await readdir(folder).catch(() => []);
  if (files.length === 0) throw await nothingFound(folder, files);
  await readAddedTokens(folder, config);
  refuseCode(context, files);
  if (files.includes("vocab.json") && files.includes("merges.txt")) {
    const vocab = await readOptionalJson(join(folder, "vocab.json"));
    return byteLevelJson(vocab, (await readOptional(join(folder, "merges.txt"))) ?? "", context);
  }
  if (files.includes("tokenizer.model")) return sentencePieceJson(context);
  if (files.includes("vocab.txt")) return wordPieceJson((await readOptional(join(folder, "vocab.txt"))) ?? "", context);
  throw await nothingFound(folder, files);
}

async function sentencePieceJson({ config, modelType, folder }: VocabularyContext & { config: Record<string, unknown> }): Promise<string> {
  const path = join(folder, "tokenizer.model");
  const bytes = await readFile(path);
  refuseOtherFormats(bytes, path);
  const named = typeof config["tokenizer_class"] === "string" ? config["tokenizer_class"].replace(/Fast$/, "") : undefined;
  const isKnown = named === undefined ? SENTENCEPIECE_MODELS.includes(String(modelType)) : SENTENCEPIECE_CLASSES.includes(named);
  if (!isKnown) {
    const known = (named === undefined ? SENTENCEPIECE_MODELS : SENTENCEPIECE_CLASSES).join(", ");
    const found = JSON.stringify(named ?? modelType ?? "");
    throw new ConfigError(`${path}: the tokenizer's class is ${found}, expected one of ${known}; ${CONVERT}`);
  }
  const isGemma = (named ?? String(modelType)).toLowerCase().startsWith("gemma");
  const { tokenizerJson, roles } = convertSentencePiece(bytes, {
    legacy: isGemma ? true : flag(config, "legacy"),
    addPrefixSpace: isGemma ? false : flag(config, "add_prefix_space"),
    addBos: flag(config, "add_bos_token") ?? true,
    addEos: flag(config, "add_eos_token") ?? false,
  }, path);
  for (const [key, token] of Object.entries(roles)) config[key] ??= token;
  return tokenizerJson;
}

/** Files of other programs that are also called `tokenizer.model`. */
function refuseOtherFormats(bytes: Buffer, path: string): void {
  const start = bytes.subarray(0, 200).toString("latin1");
  const found = start.startsWith("version https://git-lfs")
    ? "a pointer of Git LFS, not the file itself; fetch it with: git lfs pull"
    : /^[A-Za-z0-9+/]+=* \d+\r?\n/.test(start)
      ? `a tiktoken vocabulary (lines of base64 and a number), which does not say how it splits a text; ${TAKE}, or ${CONVERT}`
      : /^\s*\{/.test(start)
        ? `JSON (Mistral's tekken), expected a SentencePiece model; ${TAKE}, or ${CONVERT}`
        : undefined;
  if (found !== undefined) throw new CheckpointError(`${path}: cannot load a tokenizer: the file is ${found}`);
}

function refuseCode({ config, folder }: VocabularyContext, files: readonly string[]): void {
  const code = (config["auto_map"] as { AutoTokenizer?: unknown } | undefined)?.AutoTokenizer;
  if (code === undefined) return;
  const script = files.find((file) => /^tokenization_.*\.py$/.test(file)) ?? String(code);
  const found = `the tokenizer is Python code (${script}), which is not run, and there is no tokenizer.json`;
  throw new ConfigError(`${folder}: ${found}; ${CONVERT}`);
}

async function nothingFound(folder: string, files: readonly string[]): Promise<CheckpointError> {
  const isFolder = (await stat(folder).catch(() => undefined))?.isDirectory() ?? false;
  const also = files.filter((file) => /tekken|tiktoken|\.model$|^vocab|^merges|tokenizer/.test(file)).sort();
  const beside = also.length > 0 ? ` (found ${also.join(", ")})` : "";
  const found = isFolder ? `the folder has no tokenizer.json${beside}` : "there is no such folder or .gguf file";
  const wanted = "give a model folder with tokenizer.json, vocab.json and merges.txt, tokenizer.model or vocab.txt, or a .gguf file";
  return new CheckpointError(`${folder}: cannot load a tokenizer: ${found}; ${wanted}${also.length > 0 ? `, or ${CONVERT}` : ""}`);
}

/** `added_tokens.json`, which goes with the older files: texts with their ids. */
async function readAddedTokens(folder: string, config: Record<string, unknown>): Promise<void> {
  const path = join(folder, "added_tokens.json");
  const added = Object.entries(await readOptionalJson(path));
  if (added.length === 0) return;
  const special = new Set(
    [...SPECIAL_TOKEN_KEYS.map((key) => config[key]), ...((config["additional_special_tokens"] ?? []) as unknown[])].map(contentOf),
  );
  const decoder = { ...(config["added_tokens_decoder"] as Record<string, unknown> | undefined) };
  config["added_tokens_decoder"] = decoder;
  for (const [content, id] of added) {
    if (typeof id !== "number") {
      throw new CheckpointError(`${path}: ${JSON.stringify(content)}: expected a token id, found ${JSON.stringify(id)}`);
    }
    decoder[id] ??= { content, special: special.has(content), normalized: !special.has(content) };
  }
}

function flag(config: Readonly<Record<string, unknown>>, key: string): boolean | undefined {
  const value = config[key];
  return typeof value === "boolean" ? value : undefined;
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
