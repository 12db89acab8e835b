import { CheckpointError, ConfigError } from "../errors.ts";
import {
  bpeModel, byteLevel, splitByPattern, surround, type TokenizerPipeline, type TokenWithId, tokenizerJson,
} from "./tokenizer-json.ts";

/** How the tokenizers that were published as `vocab.json` and `merges.txt` split a text. */
type ByteLevelKind = "gpt2" | "gpt-neox" | "qwen2";

/** By `tokenizer_class` without "Fast". */
const KIND_OF_CLASS: Readonly<Record<string, ByteLevelKind>> = {
  GPT2Tokenizer: "gpt2",
  CodeGenTokenizer: "gpt2",
  GPTNeoXTokenizer: "gpt-neox",
  Qwen2Tokenizer: "qwen2",
};

/** By `model_type` of `config.json`, where no class is named. */
const KIND_OF_MODEL: Readonly<Record<string, ByteLevelKind>> = {
  gpt2: "gpt2",
  gptj: "gpt2",
  gpt_neo: "gpt2",
  opt: "gpt2",
  phi: "gpt2",
  gpt_neox: "gpt-neox",
  qwen2: "qwen2",
  qwen3: "qwen2",
};

/** What is known about a folder besides its vocabulary. */
export interface VocabularyContext {
  /** `tokenizer_config.json`. */
  config: Readonly<Record<string, unknown>>;
  /** `model_type` of `config.json`. */
  modelType: unknown;
  /** Named in errors. */
  folder: string;
}

/**
 * `tokenizer.json` of a byte-level BPE from `vocab.json` and `merges.txt`, as transformers builds it for the class of the tokenizer.
 *
 * @throws {CheckpointError} for a line of `merges.txt` that is no pair, or one of unknown tokens
 * @throws {ConfigError} for a class whose way to split texts is not known here
 */
export function byteLevelJson(vocab: Readonly<Record<string, unknown>>, merges: string, context: VocabularyContext): string {
  const ids = vocabularyOf(vocab, `${context.folder}/vocab.json`);
  const { config } = context;
  const bos = tokenNamed(ids, config["bos_token"]);
  const eos = tokenNamed(ids, config["eos_token"]);
  return tokenizerJson({
    model: bpeModel(ids, parseMerges(merges, ids, `${context.folder}/merges.txt`)),
    ...splitting(kindOf(context), config["add_prefix_space"] === true),
    postProcessor: surround(config["add_bos_token"] === true ? bos : [], config["add_eos_token"] === true ? eos : []),
    decoder: byteLevel({ addPrefixSpace: true }),
  });
}

/**
 * `tokenizer.json` of BERT's WordPiece from `vocab.txt`, a token a line.
 *
 * @throws {ConfigError} for another class than BERT's
 */
export function wordPieceJson(vocab: string, { config, modelType, folder }: VocabularyContext): string {
  const className = String(config["tokenizer_class"] ?? "").replace(/Fast$/, "");
  const isBert = className === "" ? modelType === "bert" : ["BertTokenizer", "DistilBertTokenizer"].includes(className);
  if (!isBert) throw unknownClass("vocab.txt", className || modelType, "BertTokenizer", folder);
  const lines = vocab.replace(/\r?\n$/, "").split(/\r?\n/);
  const ids = Object.fromEntries(lines.map((token, id) => [token, id]));
  const textOf = (key: string, otherwise: string) => contentOf(config[key]) ?? otherwise;
  const lowercase = config["do_lower_case"] !== false;
  return tokenizerJson({
    model: {
      type: "WordPiece",
      unk_token: textOf("unk_token", "[UNK]"),
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 100,
      vocab: ids,
    },
    normalizer: {
      type: "BertNormalizer",
      clean_text: true,
      handle_chinese_chars: config["tokenize_chinese_chars"] !== false,
      strip_accents: config["strip_accents"] ?? null,
      lowercase,
    },
    preTokenizer: { type: "BertPreTokenizer" },
    postProcessor: surround(tokenNamed(ids, textOf("cls_token", "[CLS]")), tokenNamed(ids, textOf("sep_token", "[SEP]"))),
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    addedTokens: ["pad", "unk", "cls", "sep", "mask"].flatMap((name) =>
      tokenNamed(ids, textOf(`${name}_token`, `[${name.toUpperCase()}]`)).map((token) => ({
        ...token, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true,
      })),
    ),
  });
}

/** The text of a token as `tokenizer_config.json` writes it: a string, or an object with `content`. */
export function contentOf(named: unknown): string | undefined {
  const content = typeof named === "object" && named !== null ? (named as { content?: unknown }).content : named;
  return typeof content === "string" ? content : undefined;
}

function kindOf({ config, modelType, folder }: VocabularyContext): ByteLevelKind {
  const className = config["tokenizer_class"];
  const kinds = className === undefined || className === null ? KIND_OF_MODEL : KIND_OF_CLASS;
  const name = String(className ?? modelType ?? "").replace(/Fast$/, "");
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
  if (kind !== undefined) return kind;
  throw unknownClass("vocab.json and merges.txt", name, Object.keys(kinds).join(", "), folder);
}

function unknownClass(files: string, found: unknown, known: string, folder: string): ConfigError {
  return new ConfigError(
    `${folder}: how the tokenizer of ${files} splits a text is not known: its class is ${JSON.stringify(found ?? "")}, ` +
      `expected one of ${known}; ` +
      'convert it to tokenizer.json with Python: AutoTokenizer.from_pretrained("<folder>").save_pretrained("<folder>")',
  );
}

function splitting(kind: ByteLevelKind, addPrefixSpace: boolean): Pick<TokenizerPipeline, "normalizer" | "preTokenizer"> {
  if (kind === "qwen2") return { normalizer: { type: "NFC" }, preTokenizer: splitByPattern("") };
  return { normalizer: kind === "gpt-neox" ? { type: "NFC" } : null, preTokenizer: byteLevel({ addPrefixSpace }) };
}

function parseMerges(text: string, vocab: Readonly<Record<string, number>>, source: string): string[][] {
  const merges: string[][] = [];
  for (const [index, raw] of text.split("\n").entries()) {
    const line = raw.replace(/\r$/, "");
    if (line === "" || (index === 0 && line.startsWith("#version"))) continue;
    const pair = line.split(" ");
    const [left = "", right = ""] = pair;
    if (pair.length !== 2 || left === "" || right === "") {
      const found = JSON.stringify(line);
      throw new CheckpointError(`${source}: line ${index + 1}: expected two tokens with a space between them, found ${found}`);
    }
    const unknown = [left, right, left + right].find((token) => !Object.hasOwn(vocab, token));
    if (unknown !== undefined) {
      const found = JSON.stringify(unknown);
      throw new CheckpointError(`${source}: line ${index + 1}: ${found} is not in vocab.json; the files do not belong together`);
    }
    merges.push(pair);
  }
  return merges;
}

function vocabularyOf(vocab: Readonly<Record<string, unknown>>, source: string): Record<string, number> {
  const bad = Object.entries(vocab).find(([, id]) => typeof id !== "number" || !Number.isInteger(id) || id < 0);
  if (bad === undefined) return vocab as Record<string, number>;
  throw new CheckpointError(`${source}: ${JSON.stringify(bad[0])}: expected a token id, found ${JSON.stringify(bad[1])}`);
}

function tokenNamed(ids: Readonly<Record<string, number>>, named: unknown): TokenWithId[] {
  const content = contentOf(named);
  const id = content !== undefined && Object.hasOwn(ids, content) ? ids[content] : undefined;
  return content === undefined || id === undefined ? [] : [{ id, content }];
}
