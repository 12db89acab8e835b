import { byteLevel, gpt4Split } from "./tokenizer-json.ts";

/** How a byte-level BPE tokenizer cuts a text before the merges, as `tokenizer.json` says it. */
export interface PreTokenization {
  /** Applied one after the other. */
  steps: readonly object[];
  normalizer?: object;
  /** A text that is in the vocabulary as a whole is one token, whatever the merges say. */
  ignoresMerges?: boolean;
  /** Whether llama.cpp puts the start token first where the file says nothing. */
  addsBos?: boolean;
}

/** Bytes as printable characters, after GPT-2's split of the text. */
export const BYTE_LEVEL = byteLevel();

const BYTES_ONLY = byteLevel({ useRegex: false });
const NFC = { type: "NFC" };
const SINGLE_DIGITS = { type: "Digits", individual_digits: true };
const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";

function split(pattern: string): object {
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

const gpt2: PreTokenization = { steps: [BYTE_LEVEL] };
const neox: PreTokenization = { steps: [BYTE_LEVEL], normalizer: NFC };
const singleDigits: PreTokenization = { steps: [SINGLE_DIGITS, BYTE_LEVEL] };
const threeDigits: PreTokenization = { steps: [gpt4Split("{1,3}"), BYTES_ONLY] };
const llama3: PreTokenization = { ...threeDigits, ignoresMerges: true, addsBos: true };
const qwen2: PreTokenization = { steps: [gpt4Split(""), BYTES_ONLY], normalizer: NFC };

const UPPER = "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}", LOWER = "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}";

/**
 * What llama.cpp's names of pre-tokenizers (`tokenizer.ggml.pre`) stand for in the original `tokenizer.json`. Where several are the same,
 * the first is the one that is written.
 */
export const PRE_TOKENIZATIONS: Readonly<Record<string, PreTokenization>> = {
  "gpt-2": gpt2,
  "phi-2": gpt2,
  smollm: singleDigits,
  starcoder: singleDigits,
  refact: singleDigits,
  codeshell: singleDigits,
  "llama-bpe": llama3,
  llama3,
  "llama-v3": llama3,
  falcon3: llama3,
  dbrx: threeDigits,
  "smaug-bpe": threeDigits,
  qwen2,
  "deepseek-r1-qwen": qwen2,
  megrez: qwen2,
  stablelm2: { steps: [gpt4Split(""), BYTES_ONLY] },
  // GPT-NeoX's tokenizer goes by the names of two of its users.
  mpt: neox,
  olmo: neox,
  falcon: {
    steps: [
      { type: "Punctuation", behavior: "Contiguous" }, BYTE_LEVEL, { type: "Digits", individual_digits: false }, split("[0-9][0-9][0-9]"),
    ],
  },
  // The last characters are the full stops and commas of other scripts.
  bloom: { steps: [split(" ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"), BYTES_ONLY] },
  tekken: {
    steps: [
      split(
        `[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]*[${LOWER}]+|[^\\r\\n\\p{L}\\p{N}]?[${UPPER}]+[${LOWER}]*|\\p{N}` +
          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      ),
      BYTES_ONLY,
    ],
    ignoresMerges: true, addsBos: true,
  },
  // What llama.cpp does where a file says nothing.
  default: { steps: [split("[\\p{P}\\$\\+<=>\\^~\\|]+"), split(GPT2_PATTERN), split("\\p{N}+"), split("[0-9][0-9][0-9]"), BYTES_ONLY] },
};

/**
 * llama.cpp's name of the pre-tokenizer of a `tokenizer.json`; undefined where it has none for it.
 *
 * @param normalizer as in `tokenizer.json`
 * @param preTokenizer as in `tokenizer.json`
 */
export function preTokenizerName(normalizer: unknown, preTokenizer: unknown, ignoresMerges: boolean): string | undefined {
  const wanted = canonical(flatten(normalizer, "normalizers"), flatten(preTokenizer, "pretokenizers"), ignoresMerges);
  const found = Object.entries(PRE_TOKENIZATIONS).find(([name, known]) =>
    name !== "default" && canonical(known.normalizer ? [known.normalizer] : [], known.steps, known.ignoresMerges ?? false) === wanted);
  return found?.[0];
}

/** The parts of a sequence, of one part or of none. */
function flatten(value: unknown, parts: string): object[] {
  if (value === null || value === undefined) return [];
  const { type, [parts]: inner } = value as Record<string, unknown>;
  return type === "Sequence" && Array.isArray(inner) ? inner.flatMap((part) => flatten(part, parts)) : [value as object];
}

/** One text for what cuts a text in the same way; offsets are no matter. */
function canonical(normalizers: readonly object[], steps: readonly object[], ignoresMerges: boolean): string {
  const plain = (step: object) => {
    const { trim_offsets: _, ...rest } = step as Record<string, unknown>;
    const full = rest["type"] === "ByteLevel" ? { add_prefix_space: true, use_regex: true, ...rest } : rest;
    return Object.entries(full).sort(([a], [b]) => (a < b ? -1 : 1));
  };
  return JSON.stringify([normalizers.map(plain), steps.map(plain), ignoresMerges]);
}
