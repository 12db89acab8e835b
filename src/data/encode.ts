import { ConfigError } from "../errors.ts";
import type { Message } from "../tokenizer/message.ts";
import { demonstrationEncoder, preferenceEncoder, promptEncoder } from "./record-encoders.ts";
import { countReason, type Demonstration, type Preference, type PromptRecord, type ReasonCounts } from "./records.ts";
import type { Truncation } from "./truncate.ts";

/** What encoding needs of a tokenizer; `Tokenizer` has it. */
export interface ConversationEncoder {
  /** The tokens of a dialogue up to where the assistant's answer begins. */
  encodePrompt(messages: readonly Message[]): Promise<number[]>;
  /**
   * The tokens of a dialogue up to its last end of turn, and the places of the assistant's text and ends of turn among them.
   * They begin with what `encodePrompt` gives for the messages before the last.
   */
  encodeConversation(messages: readonly Message[]): Promise<{ tokens: number[]; assistantMask: boolean[] }>;
  /** The tokens of text that is no dialogue; `addSpecialTokens` puts those of the tokenizer (the start token) around it. */
  encode(text: string, options: { addSpecialTokens: boolean }): Promise<number[]>;
  /** Ends an answer to plain text too. */
  readonly endOfTurnTokenId: number;
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
  /** What `tokens` were rendered from; undefined for plain text. */
  readonly messages: readonly Message[] | undefined;
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
