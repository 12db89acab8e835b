import { ConfigError } from "../errors.ts";
import { scoresFromMerges } from "./gguf-merges.ts";
import { preTokenizerName } from "./gguf-pre-tokenizers.ts";
import { TOKEN_TYPES } from "./gguf-tokenizer.ts";
import { parseJsonObject, type TokenizerParts } from "./parts.ts";

/** Metadata of a tokenizer in a GGUF file; a number is an uint32. */
export type GgufTokenizerMetadata = Record<string, string | number | boolean | readonly string[] | Float32Array | Int32Array>;

/** Tokens with a role: llama.cpp's name -> key of `tokenizer_config.json`. */
const ROLES = { bos: "bos_token", eos: "eos_token", unknown: "unk_token", padding: "pad_token" };

/** A space in SentencePiece's vocabularies. */
const SPACE = "\u2581";

/** Left and right part. */
type Merge = readonly [string, string];

interface Model {
  type?: unknown;
  vocab?: Readonly<Record<string, number>>;
  merges?: readonly (string | Merge)[];
  byte_fallback?: unknown;
  ignore_merges?: unknown;
}

interface Added {
  id: number;
  content: string;
  special: boolean;
}

/**
 * A tokenizer as llama.cpp reads it: byte-level BPE (`gpt2`, with the name of its pre-tokenizer) or SentencePiece BPE (`llama`, with a
 * score a piece).
 *
 * @param rows of the model's token table; ids without a token are filled with unused ones
 * @param source named in errors
 * @throws {ConfigError} for a tokenizer that llama.cpp does not have, naming what it lacks
 */
export function ggufTokenizerMetadata(parts: TokenizerParts, rows: number, source: string): GgufTokenizerMetadata {
  const json = parseJsonObject(parts.tokenizerJson, source);
  const model = (json["model"] ?? {}) as Model;
  if (model.type !== "BPE" || model.vocab === undefined) {
    throw new ConfigError(`${source}: a tokenizer of type ${JSON.stringify(model.type)} cannot be exported to GGUF, expected "BPE"`);
  }
  const added = (json["added_tokens"] ?? []) as Added[];
  const { tokens, types } = tokenList(model.vocab, added, rows, source);
  const merges = (model.merges ?? []).map((merge): Merge => (typeof merge === "string" ? cut(merge) : merge));
  const kind = isByteLevel(json) ? byteLevel(json, model, merges, source) : sentencePiece(json, model, { merges, tokens, types, source });
  return {
    ...kind, "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types, ...roles(parts.config, tokens, source),
    "tokenizer.ggml.add_bos_token": addsBos(parts.config, json), ...template(parts),
  };
}

function cut(merge: string): Merge {
  const space = merge.indexOf(" ", 1);
  return [merge.slice(0, space), merge.slice(space + 1)];
}

function isByteLevel(json: Readonly<Record<string, unknown>>): boolean {
  return JSON.stringify(json["pre_tokenizer"] ?? null).includes('"ByteLevel"');
}

function tokenList(
  vocab: Readonly<Record<string, number>>, added: readonly Added[], rows: number, source: string,
): { tokens: string[]; types: Int32Array } {
  const tokens = Array.from({ length: rows }, (_, id) => `[PAD${id}]`), types = new Int32Array(rows).fill(TOKEN_TYPES.unused);
  const place = (id: number, content: string, type: number): void => {
    if (id >= rows) {
      throw new ConfigError(`${source}: token ${JSON.stringify(content)} is number ${id}, the model's token table has ${rows} rows`);
    }
    tokens[id] = content;
    types[id] = type;
  };
  for (const [content, id] of Object.entries(vocab)) {
    place(id, content, /^<0x[0-9A-F]{2}>$/.test(content) ? TOKEN_TYPES.byte : TOKEN_TYPES.normal);
  }
  for (const { id, content, special } of added) place(id, content, special ? TOKEN_TYPES.control : TOKEN_TYPES.userDefined);
  return { tokens, types };
}

function byteLevel(
  json: Readonly<Record<string, unknown>>, model: Model, merges: readonly Merge[], source: string,
): GgufTokenizerMetadata {
  const name = preTokenizerName(json["normalizer"], json["pre_tokenizer"], model.ignore_merges === true);
  if (name === undefined) {
    throw new ConfigError(
      `${source}: llama.cpp has no name for this tokenizer's pre-tokenizer, ${JSON.stringify(json["pre_tokenizer"])} with the normalizer ` +
        `${JSON.stringify(json["normalizer"] ?? null)}: it cannot be exported to GGUF`,
    );
  }
  return {
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": name, "tokenizer.ggml.merges": merges.map(([left, right]) => `${left} ${right}`),
  };
}

function sentencePiece(
  json: Readonly<Record<string, unknown>>, model: Model,
  { merges, tokens, types, source }: { merges: readonly Merge[]; tokens: string[]; types: Int32Array; source: string },
): GgufTokenizerMetadata {
  if (model.byte_fallback !== true || !JSON.stringify([json["normalizer"], json["pre_tokenizer"]]).includes(SPACE)) {
    throw new ConfigError(`${source}: a BPE tokenizer that is neither byte-level nor SentencePiece's cannot be exported to GGUF`);
  }
  const scores = scoresFromMerges(tokens, merges, (id) => types[id] === TOKEN_TYPES.normal);
  if (scores === undefined) {
    throw new ConfigError(`${source}: the order of the tokenizer's merges cannot be told by scores: it cannot be exported to GGUF`);
  }
  for (const [id, token] of tokens.entries()) {
    // llama.cpp looks for these tokens in the text as it was given.
    if (types[id] === TOKEN_TYPES.userDefined) tokens[id] = token.replaceAll(SPACE, " ");
    if (types[id] !== TOKEN_TYPES.normal) scores[id] = types[id] === TOKEN_TYPES.byte ? 0 : -1000;
  }
  return {
    "tokenizer.ggml.model": "llama", "tokenizer.ggml.pre": "default", "tokenizer.ggml.scores": scores,
    "tokenizer.ggml.add_space_prefix": prependsSpace(json),
  };
}

/** Whether a text is read as if a space stood before it. */
function prependsSpace(json: Readonly<Record<string, unknown>>): boolean {
  const text = JSON.stringify([json["normalizer"], json["pre_tokenizer"]]);
  return text.includes('"Prepend"') || /"prepend_scheme":"(always|first)"/.test(text) || text.includes('"add_prefix_space":true');
}

function roles(config: Readonly<Record<string, unknown>>, tokens: readonly string[], source: string): GgufTokenizerMetadata {
  const found: GgufTokenizerMetadata = {};
  for (const [name, key] of Object.entries(ROLES)) {
    const value = config[key], number = config[`${key}_id`];
    const content = typeof value === "object" && value !== null ? (value as { content?: unknown }).content : value;
    if (typeof content === "string") {
      const id = tokens.indexOf(content);
      if (id < 0) throw new ConfigError(`${source}: ${key} is ${JSON.stringify(content)}, which is not in the vocabulary`);
      found[`tokenizer.ggml.${name}_token_id`] = id;
    } else if (typeof number === "number" && number >= 0) found[`tokenizer.ggml.${name}_token_id`] = number;
  }
  return found;
}

/** What the configuration says, otherwise whether the post-processor begins with a token. */
function addsBos(config: Readonly<Record<string, unknown>>, json: Readonly<Record<string, unknown>>): boolean {
  if (typeof config["add_bos_token"] === "boolean") return config["add_bos_token"];
  const first = JSON.stringify(json["post_processor"] ?? null).match(/"single":\[\{"(\w+)"/)?.[1];
  return first === "SpecialToken";
}

function template({ chatTemplate, config }: TokenizerParts): GgufTokenizerMetadata {
  const text = chatTemplate ?? config["chat_template"];
  return typeof text === "string" ? { "tokenizer.chat_template": text } : {};
}
