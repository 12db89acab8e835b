/** An entry of `added_tokens` in `tokenizer.json`: a text that is one token wherever it stands. */
export interface AddedToken {
  id: number;
  content: string;
  /** True for tokens that are no text: decoding leaves them out. */
  special: boolean;
  /** Whether it takes the spaces before it along. */
  lstrip: boolean;
  /** Whether it takes the spaces behind it along. */
  rstrip: boolean;
  /** Whether it is one token only between characters that are no part of a word. */
  single_word: boolean;
  /** Whether it is looked for after normalization of the text. */
  normalized: boolean;
}

/** The parts of `tokenizer.json` that differ between tokenizers; the rest are constants. */
export interface TokenizerPipeline {
  model: object;
  normalizer?: object | null;
  preTokenizer?: object | null;
  postProcessor?: object | null;
  decoder?: object | null;
  addedTokens?: readonly AddedToken[];
}

/** Content of `tokenizer.json`. */
export function tokenizerJson({ model, normalizer, preTokenizer, postProcessor, decoder, addedTokens }: TokenizerPipeline): string {
  return JSON.stringify({
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: addedTokens ?? [],
    normalizer: normalizer ?? null,
    pre_tokenizer: preTokenizer ?? null,
    post_processor: postProcessor ?? null,
    decoder: decoder ?? null,
    model,
  });
}

/** A byte-pair model. */
export function bpeModel(vocab: Readonly<Record<string, number>>, merges: readonly (readonly string[])[], options: object = {}): object {
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
  return { ...defaults, ...options, vocab, merges };
}

/** A post-processor that puts tokens around a text: `before`, the text, `after`. */
export function surround(before: readonly TokenWithId[], after: readonly TokenWithId[]): object | null {
  if (before.length + after.length === 0) return null;
  const special = ({ content }: TokenWithId, type_id: number) => ({ SpecialToken: { id: content, type_id } });
  const sequence = (id: "A" | "B", type_id: number) => ({ Sequence: { id, type_id } });
  const around = (id: "A" | "B", type_id: number) => [
    ...before.map((token) => special(token, type_id)),
    sequence(id, type_id),
    ...after.map((token) => special(token, type_id)),
  ];
  const named = [...before, ...after].map(({ id, content }) => [content, { id: content, ids: [id], tokens: [content] }]);
  return {
    type: "TemplateProcessing",
    single: around("A", 0),
    pair: [...around("A", 0), ...around("B", 1)],
    special_tokens: Object.fromEntries(named),
  };
}

/** A token by both of its names. */
export interface TokenWithId {
  id: number;
  content: string;
}

/** Splits as GPT-2 does and writes every byte as one visible character. */
export function byteLevel(options: { addPrefixSpace?: boolean; useRegex?: boolean } = {}): object {
  const { addPrefixSpace = false, useRegex = true } = options;
  return { type: "ByteLevel", add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: useRegex };
}

/** GPT-4's split, with numbers in groups of at most `digits` (a quantifier such as `{1,3}`). */
export function gpt4Split(digits: string): object {
  const pattern =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" +
    digits +
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  return { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false };
}

/** `gpt4Split`, then bytes as visible characters. */
export function splitByPattern(digits: string): object {
  return { type: "Sequence", pretokenizers: [gpt4Split(digits), byteLevel({ useRegex: false })] };
}
