import { ConfigError } from "../errors.ts";
import type { Message } from "../tokenizer/message.ts";
import { countReason, type Demonstration, type Origin, type Preference, type PromptRecord, type ReasonCounts } from "./records.ts";
import { shortenPrompt, type Truncation } from "./truncate.ts";

/** What encoding needs of a tokenizer; `Tokenizer` has it. */
export interface ConversationEncoder {
  /** The tokens of a dialogue up to where the assistant's answer begins. */
  encodePrompt(messages: readonly Message[]): Promise<number[]>;
  /**
   * The tokens of a dialogue up to its last end of turn, and the places of the assistant's text and ends of turn among them.
   * They begin with what `encodePrompt` gives for the messages before the last.
   */
  encodeConversation(messages: readonly Message[]): Promise<{ tokens: number[]; assistantMask: boolean[] }>;
}

/**
 * A dialogue to imitate.
 *
 *     { tokens: [5, 6, 7, 8, 2], lossMask: [false, false, false, true, true] } // prompt 5 6 7, answer 8, end of turn 2
 */
export interface SftSample {
  readonly tokens: readonly number[];
  /** As long as `tokens`; true where predicting this token from those before it is part of the loss. */
  readonly lossMask: readonly boolean[];
}

/**
 * Two answers to one prompt, each as prompt, answer and end of turn.
 *
 *     { chosen: [5, 6, 7, 8, 2], rejected: [5, 6, 7, 9, 9, 2], promptLength: 3 }
 */
export interface PreferencePair {
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
  /** Tokens that both begin with. */
  readonly promptLength: number;
}

/** A prompt to answer, with the user's last message for display. */
export interface PromptSample {
  readonly tokens: readonly number[];
  readonly text: string;
}

/** Samples in the order of their records, and how many records were left out or shortened. */
export interface Encoded<T> {
  readonly samples: readonly T[];
  readonly dropped: ReasonCounts;
  /** Samples that are a part of their record. */
  readonly numTruncated: number;
}

/** Called as encoding goes on, with records done and in all. */
export type EncodeProgress = (done: number, total: number) => void;

/** Settings that all encodings share. */
export interface EncodeOptions {
  /** What becomes of records that are too long; "drop" if not given. */
  readonly truncation?: Truncation;
  readonly onProgress?: EncodeProgress;
}

/** Settings of `encodeDemonstrations`. */
export interface DemonstrationOptions extends EncodeOptions {
  /** Tokens. */
  readonly maxSeqLen: number;
  /** "answer": the assistant turns that the record wants imitated, ends of turn included; "all": every token but the first. */
  readonly lossOn: "answer" | "all";
}

/** Settings of `encodePreferences`. */
export interface PreferenceOptions extends EncodeOptions {
  /** Tokens. */
  readonly maxSeqLen: number;
}

/** Settings of `encodePrompts`. */
export interface PromptOptions extends EncodeOptions {
  /** Tokens. */
  readonly maxPromptLen: number;
}

/** What became of one record: a sample, or the reason why there is none. */
export interface Encoding<T> {
  /** Tokens of the whole record; of a pair's longer side. */
  readonly length: number;
  readonly sample?: T;
  /** Whether `sample` is a part of the record. */
  readonly isTruncated?: boolean;
  readonly reason?: string;
}

/** Encodes records one by one. */
export interface RecordEncoder<R, T> {
  /** The setting that limits the length, for messages: `maxSeqLen`. */
  readonly setting: string;
  /** Tokens. */
  readonly limit: number;
  /** All settings that decide what a sample is. */
  readonly options: Readonly<Record<string, string | number>>;
  /** @throws {ConfigError} with file and line if the chat template refuses a dialogue, or it is too long under `truncation: "error"` */
  encode(record: R): Promise<Encoding<T>>;
}

/**
 * SFT samples of demonstrations. Too long ones are dropped, or shortened: at the right like DeepSpeed-Chat, tokens at the end, so that
 * a cut answer has no end of turn; at the left as `shortenPrompt` does, with the answer whole.
 *
 * @throws {ConfigError} if none fits into `maxSeqLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodeDemonstrations(
  records: readonly Demonstration[], encoder: ConversationEncoder, options: DemonstrationOptions,
): Promise<Encoded<SftSample>> {
  return encodeAll(records, demonstrationEncoder(encoder, options), options.onProgress);
}

/**
 * Pairs for the reward model or DPO. A pair is too long if either side has more than `maxSeqLen` tokens; it is dropped, or
 * shortened: at the right like DeepSpeed-Chat, each side by itself, and dropped if both become equal; at the left as `shortenPrompt`
 * does, the same for both, with the answers whole.
 *
 * @throws {ConfigError} if none fits into `maxSeqLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodePreferences(
  records: readonly Preference[], encoder: ConversationEncoder, options: PreferenceOptions,
): Promise<Encoded<PreferencePair>> {
  return encodeAll(records, preferenceEncoder(encoder, options), options.onProgress);
}

/**
 * Prompts for PPO. Those longer than `maxPromptLen` tokens are dropped, as in DeepSpeed-Chat, or shortened as `shortenPrompt` does.
 *
 * @throws {ConfigError} if none fits into `maxPromptLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodePrompts(
  records: readonly PromptRecord[], encoder: ConversationEncoder, options: PromptOptions,
): Promise<Encoded<PromptSample>> {
  return encodeAll(records, promptEncoder(encoder, options), options.onProgress);
}

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
    encode: async ({ prompt }: PromptRecord) => ({ tokens: await encoder.encodePrompt(prompt), text: prompt.at(-1)?.content ?? "" }),
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

function recordEncoder<R extends { readonly origin: Origin; readonly prompt: readonly Message[] }, T>(
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
    return shortenPrompt(record.prompt, truncation, async (prompt) => {
      const shorter = await encode({ ...record, prompt });
      return lengthOf(shorter) <= limit ? { sample: shorter } : undefined;
    });
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

/** A dialogue and its answer; the answer begins at `answerStart` and goes to the end. */
async function encodeAnswer(encoder: ConversationEncoder, prompt: readonly Message[], answer: string) {
  const { tokens, assistantMask } = await encoder.encodeConversation([...prompt, { role: "assistant", content: answer }]);
  return { tokens, assistantMask, answerStart: assistantMask.lastIndexOf(false) + 1 };
}

/** Records encoded at a time: enough to keep the tokenizer's threads busy, few enough to hold little in memory. */
const CONCURRENCY = 64;

/** What `work` gives for each item, in their order; some are under way at a time. */
export async function* inOrder<I, O>(items: Iterable<I> | AsyncIterable<I>, work: (item: I) => Promise<O>): AsyncGenerator<O> {
  let chunk: I[] = [];
  for await (const item of items) {
    chunk.push(item);
    if (chunk.length < CONCURRENCY) continue;
    yield* await Promise.all(chunk.map(work));
    chunk = [];
  }
  yield* await Promise.all(chunk.map(work));
}

async function encodeAll<R, T>(
  records: readonly R[], encoder: RecordEncoder<R, T>, onProgress: EncodeProgress | undefined,
): Promise<Encoded<T>> {
  const samples: T[] = [];
  const dropped: Record<string, number> = {};
  let shortest = Infinity, done = 0, numTruncated = 0;
  for await (const { length, sample, isTruncated, reason } of inOrder(records, (record) => encoder.encode(record))) {
    shortest = Math.min(shortest, length);
    if (isTruncated === true) numTruncated++;
    if (sample !== undefined) samples.push(sample);
    else countReason(dropped, reason ?? "no sample");
    if (++done % CONCURRENCY === 0 || done === records.length) onProgress?.(done, records.length);
  }
  checkSomeFit(encoder, { numRecords: records.length, numSamples: samples.length, shortest });
  return { samples, dropped, numTruncated };
}

/** @throws {ConfigError} if there are records but no sample, with the tokens of the shortest */
export function checkSomeFit(
  { setting, limit }: Pick<RecordEncoder<never, unknown>, "setting" | "limit">,
  { numRecords, numSamples, shortest }: { numRecords: number; numSamples: number; shortest: number },
): void {
  if (numSamples > 0 || numRecords === 0) return;
  throw new ConfigError(`${setting} ${limit}: expected records of at most ${limit} tokens, found ${numRecords}, ` +
    `the shortest of ${shortest} tokens; raise ${setting} or shorten the data`);
}

async function withOrigin<R extends { readonly origin: Origin }, T>(record: R, encode: (record: R) => Promise<T>): Promise<T> {
  try {
    return await encode(record);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${record.origin.path}:${record.origin.line}: ${error.message}`, { cause: error });
  }
}
