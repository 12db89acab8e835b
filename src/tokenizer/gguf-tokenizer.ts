import { gguf } from "@huggingface/gguf";
import { CheckpointError, ConfigError } from "../errors.ts";
import { mergesFromScores } from "./gguf-merges.ts";
import type { TokenizerParts } from "./parts.ts";

/** llama.cpp's token types (`tokenizer.ggml.token_type`) that make a token an added one. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

const BYTE_LEVEL = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };

/** GPT-4's split, with numbers in groups of at most `digits`. */
function splitByPattern(digits: string): object {
  const pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" +
    digits +
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  const split = { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
  return { type: "Sequence", pretokenizers: [split, { ...BYTE_LEVEL, use_regex: false }] };
}

interface PreTokenization {
  preTokenizer: object;
  normalizer?: object;
  /** A text that is in the vocabulary as a whole is one token, whatever the merges say. */
  ignoresMerges?: boolean;
  addsBos?: boolean;
}

/** What llama.cpp's names of pre-tokenizers (`tokenizer.ggml.pre`) stand for in the original `tokenizer.json`. */
const PRE_TOKENIZATIONS: Readonly<Record<string, PreTokenization>> = {
  default: { preTokenizer: BYTE_LEVEL },
  "gpt-2": { preTokenizer: BYTE_LEVEL },
  smollm: { preTokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, BYTE_LEVEL] } },
  "llama-bpe": { preTokenizer: splitByPattern("{1,3}"), ignoresMerges: true, addsBos: true },
  qwen2: { preTokenizer: splitByPattern(""), normalizer: { type: "NFC" } },
};

/**
 * The tokenizer inside a `.gguf` file.
 *
 * @throws {CheckpointError} when the file cannot be read as GGUF, or has no tokenizer
 * @throws {ConfigError} for a kind of tokenizer that is not known here
 */
export async function readGgufTokenizer(path: string): Promise<TokenizerParts> {
  let metadata: Record<string, unknown>;
  try {
    metadata = { ...(await gguf(path, { allowLocalFile: true })).metadata };
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read as a GGUF file: ${(cause as Error).message}`, { cause });
  }
  return ggufTokenizerParts(metadata, path);
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
  if (model === undefined) throw new CheckpointError(`${source}: the file has no tokenizer: tokenizer.ggml.model is missing`);
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
    pre_tokenizer: preTokenization.preTokenizer,
    decoder: { ...BYTE_LEVEL, add_prefix_space: true },
    model: bpe(tokens, merges, { ignore_merges: preTokenization.ignoresMerges ?? false }),
  });
}

/** SentencePiece's BPE: spaces are U+2581, unknown characters are bytes, and the scores give the order of the merges. */
function sentencePieceParts(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[], source: string): TokenizerParts {
  const scores = metadata["tokenizer.ggml.scores"];
  if (!Array.isArray(scores) || scores.length !== tokens.length) {
    throw new CheckpointError(`${source}: tokenizer.ggml.scores: expected ${tokens.length} numbers, one for each token`);
  }
  const addsSpace = flag(metadata, "add_space_prefix", true);
  const space = "\u2581";
  const replace = { type: "Replace", pattern: { String: " " }, content: space };
  const decoders = [{ type: "Replace", pattern: { String: space }, content: " " }, { type: "ByteFallback" }, { type: "Fuse" }];
  const unknown = tokens[Number(metadata["tokenizer.ggml.unknown_token_id"] ?? 0)] ?? null;
  return parts(metadata, tokens, flag(metadata, "add_bos_token", true), {
    normalizer: addsSpace ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: space }, replace] } : replace,
    pre_tokenizer: null,
    decoder: { type: "Sequence", decoders: addsSpace ? [...decoders, { type: "Strip", content: " ", start: 1, stop: 0 }] : decoders },
    model: bpe(tokens, mergesFromScores(tokens, scores as number[]), { unk_token: unknown, fuse_unk: true, byte_fallback: true }),
  });
}

function bpe(tokens: readonly string[], merges: readonly string[][], options: object): object {
  const defaults = {
    type: "BPE",
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
  };
  return { ...defaults, ...options, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges };
}

function parts(metadata: Readonly<Record<string, unknown>>, tokens: readonly string[], addsBos: boolean, pipeline: object): TokenizerParts {
  const roleText = (name: string): string | undefined => {
    const id = metadata[`tokenizer.ggml.${name}_token_id`];
    return id === undefined ? undefined : tokens[Number(id)];
  };
  const bos = roleText("bos");
  const types = (metadata["tokenizer.ggml.token_type"] ?? []) as number[];
  const added = [UNKNOWN, CONTROL, USER_DEFINED];
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) =>
      added.includes(types[id] ?? 0)
        ? [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: types[id] !== USER_DEFINED }]
        : [],
    ),
    post_processor: addsBos && bos !== undefined ? bosProcessor(bos, tokens.indexOf(bos)) : null,
    ...pipeline,
  };
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
  return { tokenizerJson: JSON.stringify(tokenizer), config, ...(typeof chatTemplate === "string" ? { chatTemplate } : {}) };
}

function bosProcessor(bos: string, id: number): object {
  const first = { SpecialToken: { id: bos, type_id: 0 } };
  const text = { Sequence: { id: "A", type_id: 0 } };
  const second = { Sequence: { id: "B", type_id: 1 } };
  const special = { [bos]: { id: bos, ids: [id], tokens: [bos] } };
  return { type: "TemplateProcessing", single: [first, text], pair: [first, text, second], special_tokens: special };
}

function flag(metadata: Readonly<Record<string, unknown>>, name: string, otherwise: boolean): boolean {
  return (metadata[`tokenizer.ggml.${name}`] as boolean | undefined) ?? otherwise;
}

function stringList(metadata: Readonly<Record<string, unknown>>, key: string, source: string): string[] {
  const value = metadata[key];
  if (Array.isArray(value) && value.every((entry) => typeof entry === "string")) return value;
  throw new CheckpointError(`${source}: ${key}: expected a list of strings, found ${value === undefined ? "nothing" : typeof value}`);
}
