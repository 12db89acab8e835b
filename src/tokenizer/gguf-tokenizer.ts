import { CheckpointError, ConfigError } from "../errors.ts";
import { readGgufHeader } from "./gguf-header.ts";
import { mergesFromScores } from "./gguf-merges.ts";
import { PRE_TOKENIZATIONS } from "./gguf-pre-tokenizers.ts";
import type { TokenizerParts } from "./parts.ts";
import { bpeModel, byteLevel, surround, type TokenizerPipeline, tokenizerJson } from "./tokenizer-json.ts";

/** llama.cpp's types of tokens (`tokenizer.ggml.token_type`). */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** An added token is found in the text as it was given, wherever it stands. */
const PLAIN_TOKEN = { single_word: false, lstrip: false, rstrip: false, normalized: false };

/**
 * The tokenizer inside a `.gguf` file.
 *
 * @throws {CheckpointError} when the file cannot be read as GGUF, or has no tokenizer
 * @throws {ConfigError} for a kind of tokenizer that is not known here
 */
export async function readGgufTokenizer(path: string): Promise<TokenizerParts> {
  return ggufTokenizerParts(readGgufHeader(path).metadata, path);
}

/**
 * `tokenizer.json` and `tokenizer_config.json` from the metadata of a GGUF file: byte-level BPE (`gpt2`) and
 * SentencePiece BPE (`llama`).
 *
 * @param source named in errors
 * @throws {CheckpointError} for missing or malformed metadata
 * @throws {ConfigError} for another tokenizer model or pre-tokenizer
 */
export function ggufTokenizerParts(metadata: Readonly<Record<string, unknown>>, source: string): TokenizerParts {
  const model = metadata["tokenizer.ggml.model"];
  if (model === undefined || model === "none") {
    const found = model === undefined ? "missing" : '"none"';
    throw new CheckpointError(`${source}: the file has no tokenizer: tokenizer.ggml.model is ${found}`);
  }
  const tokens = stringList(metadata, "tokenizer.ggml.tokens", source);
  if (model === "gpt2") return byteLevelParts(metadata, tokens, source);
  if (model === "llama") return sentencePieceParts(metadata, tokens, source);
  throw new ConfigError(
    `${source}: tokenizer.ggml.model ${JSON.stringify(model)} is not supported, expected "gpt2" or "llama"; use the Hugging Face folder`,
  );
}

function byteLevelParts(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[], source: string): TokenizerParts {
  const name = String(metadata["tokenizer.ggml.pre"] ?? "default");
  const preTokenization = Object.hasOwn(PRE_TOKENIZATIONS, name) ? PRE_TOKENIZATIONS[name] : undefined;
  if (preTokenization === undefined) {
    const known = Object.keys(PRE_TOKENIZATIONS).join(", ");
    throw new ConfigError(
      `${source}: pre-tokenizer ${JSON.stringify(name)} is not supported, expected one of ${known}; use the Hugging Face folder`,
    );
  }
  const merges = stringList(metadata, "tokenizer.ggml.merges", source).map((merge) => {
    const space = merge.indexOf(" ", 1);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  const addsBos = flag(metadata, "add_bos_token", preTokenization.addsBos ?? false);
  return parts(metadata, tokens, addsBos, {
    normalizer: preTokenization.normalizer ?? null,
    preTokenizer: { type: "Sequence", pretokenizers: preTokenization.steps },
    decoder: byteLevel({ addPrefixSpace: true }),
    model: bpeModel(vocabulary(metadata, tokens), merges, { ignore_merges: preTokenization.ignoresMerges ?? false }),
  });
}

/** SentencePiece's BPE: spaces are U+2581, unknown characters are bytes, and the scores give the order of the merges. */
function sentencePieceParts(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[], source: string): TokenizerParts {
  const scores = metadata["tokenizer.ggml.scores"];
  if (!isNumbers(scores) || scores.length !== tokens.length) {
    throw new CheckpointError(`${source}: tokenizer.ggml.scores: expected ${tokens.length} numbers, one for each token`);
  }
  const addsSpace = flag(metadata, "add_space_prefix", true);
  const space = "\u2581";
  const replace = { type: "Replace", pattern: { String: " " }, content: space };
  const decoders = [{ type: "Replace", pattern: { String: space }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }];
  const types = tokenTypes(metadata, tokens);
  const merges = mergesFromScores(tokens, scores, (id) => types[id] === TOKEN_TYPES.normal);
  const unknown = tokens[Number(metadata["tokenizer.ggml.unknown_token_id"] ?? 0)] ?? null;
  return parts(metadata, tokens, flag(metadata, "add_bos_token", true), {
    normalizer: addsSpace ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: space }, replace] } : replace,
    decoder: { type: "Sequence", decoders: addsSpace ? [...decoders, { type: "Strip", content: " ", start: 1, stop: 0 }] : decoders },
    model: bpeModel(vocabulary(metadata, tokens), merges, { unk_token: unknown, fuse_unk: true, byte_fallback: true }),
  });
}

/** The tokens with their ids. Rows of the model that have no token go by `[PAD<id>]` in a file; they have no text. */
function vocabulary(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[]): Record<string, number> {
  const types = tokenTypes(metadata, tokens);
  const named = tokens.map((token, id) => [token, id] as const);
  return Object.fromEntries(named.filter(([token, id]) => types[id] !== TOKEN_TYPES.unused || token !== `[PAD${id}]`));
}

function parts(
  metadata: Readonly<Record<string, unknown>>, tokens: readonly string[], addsBos: boolean, pipeline: TokenizerPipeline,
): TokenizerParts {
  const roleText = (name: string): string | undefined => {
    const id = metadata[`tokenizer.ggml.${name}_token_id`];
    return id === undefined ? undefined : tokens[Number(id)];
  };
  const bos = roleText("bos");
  const types = tokenTypes(metadata, tokens);
  const added: readonly (number | undefined)[] = [TOKEN_TYPES.unknown, TOKEN_TYPES.control, TOKEN_TYPES.userDefined];
  const json = tokenizerJson({
    ...pipeline,
    postProcessor: addsBos && bos !== undefined ? surround([{ id: tokens.indexOf(bos), content: bos }], []) : null,
    addedTokens: tokens.flatMap((content, id) =>
      added.includes(types[id]) ? [{ id, content, ...PLAIN_TOKEN, special: types[id] !== TOKEN_TYPES.userDefined }] : [],
    ),
  });
  const config = {
    add_bos_token: addsBos,
    bos_token: bos,
    eos_token: roleText("eos"),
    pad_token: roleText("padding"),
    unk_token: roleText("unknown"),
    clean_up_tokenization_spaces: false,
    tokenizer_class: "PreTrainedTokenizerFast",
    model_max_length: metadata[`${String(metadata["general.architecture"])}.context_length`],
  };
  const chatTemplate = metadata["tokenizer.chat_template"];
  return { tokenizerJson: json, config, ...(typeof chatTemplate === "string" ? { chatTemplate } : {}) };
}

/** The type of every token; all are normal where the file says nothing. */
function tokenTypes(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[]): ArrayLike<number> {
  const types = metadata["tokenizer.ggml.token_type"];
  return isNumbers(types) ? types : tokens.map(() => TOKEN_TYPES.normal);
}

/** Lists of 32-bit numbers are typed arrays, others plain ones. */
function isNumbers(value: unknown): value is ArrayLike<number> {
  return Array.isArray(value) || value instanceof Float32Array || value instanceof Int32Array;
}

function flag(metadata: Readonly<Record<string, unknown>>, name: string, otherwise: boolean): boolean {
  return (metadata[`tokenizer.ggml.${name}`] as boolean | undefined) ?? otherwise;
}

function stringList(metadata: Readonly<Record<string, unknown>>, key: string, source: string): string[] {
  const value = metadata[key];
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value;
  throw new CheckpointError(`${source}: ${key}: expected a list of strings, found ${value === undefined ? "nothing" : typeof value}`);
}
