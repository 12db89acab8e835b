import { ConfigError } from "../errors.ts";
import { mergesFromScores } from "./gguf-merges.ts";
import { ModelType, PieceType, readSentencePieceModel, type SentencePieceModel } from "./sentencepiece-model.ts";
import { type AddedToken, bpeModel, surround, type TokenizerPipeline, tokenizerJson } from "./tokenizer-json.ts";

/** Stands for a space in the pieces. */
const SPACE = "\u2581";

/** What `tokenizer_config.json` says about a SentencePiece tokenizer. */
export interface SentencePieceOptions {
  /** Llama's `legacy: false`: only the beginning of a text gets a space, not what follows a special token. Default true. */
  legacy?: boolean | undefined;
  /** Default: as the model file says. */
  addPrefixSpace?: boolean | undefined;
  addBos: boolean;
  addEos: boolean;
}

/** `tokenizer.json` and the tokens with a role, by their names in `tokenizer_config.json`. */
export interface ConvertedSentencePiece {
  tokenizerJson: string;
  roles: Record<string, string>;
}

/**
 * `tokenizer.json` of a SentencePiece model, of kind BPE or Unigram: the same ids as SentencePiece, with its control symbols as
 * special tokens. With `legacy: false` it is what transformers makes for Llama.
 *
 * @param source named in errors
 * @throws {CheckpointError} for bytes that are no SentencePiece model
 * @throws {ConfigError} for a model that uses what cannot be expressed
 */
export function convertSentencePiece(bytes: Uint8Array, options: SentencePieceOptions, source: string): ConvertedSentencePiece {
  const model = readSentencePieceModel(bytes, source);
  refuseUnsupported(model, source);
  const tokenOf = (id: number) => model.pieces.slice(id, id + 1).flatMap(({ text }) => (id >= 0 ? [{ id, content: text }] : []));
  const ids = { bos_token: model.bosId, eos_token: model.eosId, unk_token: model.unkId, pad_token: model.padId };
  const json = tokenizerJson({
    model: model.modelType === ModelType.bpe ? bpe(model) : unigram(model),
    ...spaces(model, options),
    postProcessor: surround(options.addBos ? tokenOf(model.bosId) : [], options.addEos ? tokenOf(model.eosId) : []),
    addedTokens: addedTokens(model),
  });
  const roles = Object.entries(ids).flatMap(([key, id]) => tokenOf(id).map(({ content }) => [key, content] as const));
  return { tokenizerJson: json, roles: Object.fromEntries(roles) };
}

function refuseUnsupported(model: SentencePieceModel, source: string): void {
  const problems: [boolean, string][] = [
    [![ModelType.bpe, ModelType.unigram].some((kind) => kind === model.modelType), "is neither BPE nor Unigram"],
    [model.treatWhitespaceAsSuffix, "writes spaces at the end of pieces"],
    [!model.escapeWhitespaces, "does not replace spaces"],
    [model.denormalizes, "replaces characters when it decodes"],
    [model.pieces.some(({ type }) => type === PieceType.unused), "has pieces that are marked as unused"],
  ];
  const found = problems.find(([holds]) => holds)?.[1];
  if (found === undefined) return;
  throw new ConfigError(
    `${source}: this SentencePiece model cannot be used: it ${found}; convert the tokenizer to tokenizer.json with Python: ` +
      'AutoTokenizer.from_pretrained("<folder>").save_pretrained("<folder>")',
  );
}

function bpe({ pieces, byteFallback, unkId }: SentencePieceModel): object {
  // Only plain pieces come from merges; the others are found in the text, or never.
  const plain = pieces.filter(({ type }) => type === PieceType.normal);
  const merges = mergesFromScores(plain.map(({ text }) => text), plain.map(({ score }) => score));
  const options = { unk_token: pieces[unkId]?.text ?? null, fuse_unk: true, byte_fallback: byteFallback };
  return bpeModel(Object.fromEntries(pieces.map(({ text }, id) => [text, id])), merges, options);
}

function unigram({ pieces, byteFallback, unkId }: SentencePieceModel): object {
  return { type: "Unigram", unk_id: unkId, vocab: pieces.map(({ text, score }) => [text, score]), byte_fallback: byteFallback };
}

/** What happens to spaces and other characters before and after the model proper. */
function spaces(
  model: SentencePieceModel, options: SentencePieceOptions,
): Pick<TokenizerPipeline, "normalizer" | "preTokenizer" | "decoder"> {
  const replace = (pattern: object, content: string) => ({ type: "Replace", pattern, content });
  const prefixes = options.addPrefixSpace ?? model.addDummyPrefix;
  const cleaned = [
    ...(model.charsMap.length > 0 ? [{ type: "Precompiled", precompiled_charsmap: Buffer.from(model.charsMap).toString("base64") }] : []),
    ...(model.removeExtraWhitespaces
      // "Strip" would take line breaks, too.
      ? [replace({ Regex: "\\A +| +\\z" }, ""), replace({ Regex: " {2,}" }, " ")]
      : []),
  ];
  const decoders = [
    replace({ String: SPACE }, " "),
    { type: "ByteFallback" },
    { type: "Fuse" },
    ...(prefixes ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
  ];
  const decoder = { type: "Sequence", decoders };
  if (options.legacy === false) {
    const scheme = prefixes ? "first" : "never";
    const preTokenizer = { type: "Metaspace", replacement: SPACE, prepend_scheme: scheme, split: false };
    return { normalizer: cleaned.length > 0 ? { type: "Sequence", normalizers: cleaned } : null, preTokenizer, decoder };
  }
  const normalizers = [
    ...cleaned,
    ...(prefixes ? [{ type: "Prepend", prepend: SPACE }] : []),
    replace({ String: " " }, SPACE),
  ];
  return { normalizer: { type: "Sequence", normalizers }, decoder };
}

function addedTokens({ pieces }: SentencePieceModel): AddedToken[] {
  const added: readonly number[] = [PieceType.unknown, PieceType.control, PieceType.userDefined];
  return pieces.flatMap(({ text, type }, id) => {
    if (!added.includes(type)) return [];
    // A user's piece of spaces (Gemma's runs of them) is looked for where spaces are already replaced.
    const normalized = type === PieceType.userDefined && text.includes(SPACE);
    return [{ id, content: text, single_word: false, lstrip: false, rstrip: false, normalized, special: type !== PieceType.userDefined }];
  });
}
