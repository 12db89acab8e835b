import { ConfigError } from "../errors.ts";
import type {
  ConversationEncoder, DemonstrationOptions, Encoding, PreferenceOptions, PreferencePair, PromptOptions, PromptSample, RecordEncoder,
  SftSample,
} from "./encode.ts";
import type { Demonstration, Origin, Preference, Prompt, PromptRecord } from "./records.ts";
import { shortenPrompt, shortenText, type Truncation } from "./truncate.ts";

/** `encodeDemonstrations`, record by record. */
export function demonstrationEncoder(
  encoder: ConversationEncoder, { maxSeqLen, lossOn, truncation = "drop" }: DemonstrationOptions,
): RecordEncoder<Demonstration, SftSample> {
  return recordEncoder({ setting: "maxSeqLen", limit: maxSeqLen, truncation, options: { lossOn } }, {
    encode: async ({ prompt, answer, trainedTurns }: Demonstration) => {
      const { tokens, answerStart, assistantMask } = await encodeAnswer(encoder, prompt, answer);
      const lossMask = assistantMask.map((isAssistant, i) => {
        if (lossOn === "all") return i > 0;
        return trainedTurns === "all" ? isAssistant : i >= answerStart;
      });
      return { tokens, lossMask };
    },
    lengthOf: ({ tokens }) => tokens.length,
    cutRight: ({ tokens, lossMask }) => {
      const cut = { tokens: tokens.slice(0, maxSeqLen), lossMask: lossMask.slice(0, maxSeqLen) };
      return cut.lossMask.includes(true) ? { sample: cut } : undefined;
    },
  });
}

/** `encodePreferences`, record by record. */
export function preferenceEncoder(
  encoder: ConversationEncoder, { maxSeqLen, truncation = "drop" }: PreferenceOptions,
): RecordEncoder<Preference, PreferencePair> {
  return recordEncoder({ setting: "maxSeqLen", limit: maxSeqLen, truncation, options: {} }, {
    encode: async ({ prompt, chosen, rejected }: Preference) => {
      const [better, worse] = await Promise.all([encodeAnswer(encoder, prompt, chosen), encodeAnswer(encoder, prompt, rejected)]);
      return { chosen: better.tokens, rejected: worse.tokens, promptLength: better.answerStart };
    },
    lengthOf: ({ chosen, rejected }) => Math.max(chosen.length, rejected.length),
    cutRight: ({ chosen, rejected, promptLength }) => {
      const cut = { chosen: chosen.slice(0, maxSeqLen), rejected: rejected.slice(0, maxSeqLen), promptLength };
      const areEqual = cut.chosen.length === cut.rejected.length && cut.chosen.every((token, i) => token === cut.rejected[i]);
      return areEqual ? { reason: `the first ${maxSeqLen} tokens (maxSeqLen) of both sides are equal` } : { sample: cut };
    },
  });
}

/** `encodePrompts`, record by record. */
export function promptEncoder(
  encoder: ConversationEncoder, { maxPromptLen, truncation = "drop" }: PromptOptions,
): RecordEncoder<PromptRecord, PromptSample> {
  return recordEncoder({ setting: "maxPromptLen", limit: maxPromptLen, truncation, options: {} }, {
    encode: async ({ prompt }: PromptRecord) => {
      if (typeof prompt === "string") {
        return { tokens: await encoder.encode(prompt, { addSpecialTokens: true }), messages: undefined, text: prompt };
      }
      return { tokens: await encoder.encodePrompt(prompt), messages: prompt, text: prompt.at(-1)?.content ?? "" };
    },
    lengthOf: ({ tokens }) => tokens.length,
  });
}

interface Limits {
  readonly setting: string;
  readonly limit: number;
  readonly truncation: Truncation;
  readonly options: Readonly<Record<string, string>>;
}

type Cut<T> = { readonly sample: T } | { readonly reason: string };

interface Format<R, T> {
  encode(record: R): Promise<T>;
  /** Tokens. */
  lengthOf(sample: T): number;
  /** The sample without what is too much of it, or why that is of no use: it is too long if undefined. Without this the prompt is cut. */
  cutRight?(sample: T): Cut<T> | undefined;
}

function recordEncoder<R extends { readonly origin: Origin; readonly prompt: Prompt }, T>(
  { setting, limit, truncation, options }: Limits, { encode, lengthOf, cutRight }: Format<R, T>,
): RecordEncoder<R, T> {
  const tooLong = `longer than ${setting} ${limit}`;
  const shortened = async (record: R, sample: T): Promise<Cut<T> | undefined> => {
    if (truncation === "drop") return undefined;
    if (truncation === "error") {
      throw new ConfigError(`expected at most ${limit} tokens (${setting}), found ${lengthOf(sample)}; shorten the record, ` +
        `raise ${setting}, or choose another truncation than "error"`);
    }
    if (truncation === "right" && cutRight !== undefined) return cutRight(sample);
    const attempt = async (prompt: Prompt): Promise<Cut<T> | undefined> => {
      const shorter = await encode({ ...record, prompt });
      return lengthOf(shorter) <= limit ? { sample: shorter } : undefined;
    };
    const { prompt } = record;
    return typeof prompt === "string" ? shortenText(prompt, truncation, attempt) : shortenPrompt(prompt, truncation, attempt);
  };
  return {
    setting, limit, options: { ...options, [setting]: limit, truncation },
    encode: (record) => withOrigin(record, async (): Promise<Encoding<T>> => {
      const sample = await encode(record);
      const length = lengthOf(sample);
      if (length <= limit) return { length, sample };
      const cut = await shortened(record, sample) ?? { reason: tooLong };
      return "sample" in cut ? { length, ...cut, isTruncated: true } : { length, ...cut };
    }),
  };
}

/** A prompt and its answer; the answer begins at `answerStart` and goes to the end. */
async function encodeAnswer(encoder: ConversationEncoder, prompt: Prompt, answer: string) {
  if (typeof prompt === "string") return encodePlainAnswer(encoder, prompt, answer);
  const { tokens, assistantMask } = await encoder.encodeConversation([...prompt, { role: "assistant", content: answer }]);
  return { tokens, assistantMask, answerStart: assistantMask.lastIndexOf(false) + 1 };
}

/** As `encodeAnswer`, of text without a chat template: the tokens of prompt and answer, and the end of turn. */
async function encodePlainAnswer(encoder: ConversationEncoder, prompt: string, answer: string) {
  const [before, after] = await Promise.all([
    encoder.encode(prompt, { addSpecialTokens: true }), encoder.encode(answer, { addSpecialTokens: false }),
  ]);
  const tokens = [...before, ...after, encoder.endOfTurnTokenId];
  // Nothing predicts the first token, which is the answer's own where the tokenizer has no start token and the prompt is empty.
  const answerStart = Math.max(1, before.length);
  return { tokens, assistantMask: tokens.map((_, i) => i >= answerStart), answerStart };
}

async function withOrigin<R extends { readonly origin: Origin }, T>(record: R, encode: (record: R) => Promise<T>): Promise<T> {
  try {
    return await encode(record);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${record.origin.path}:${record.origin.line}: ${error.message}`, { cause: error });
  }
}
