import { ConfigError } from "../errors.ts";
import type { Message } from "../tokenizer/message.ts";
import { countReason, type Demonstration, type Origin, type Preference, type PromptRecord, type ReasonCounts } from "./records.ts";

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
  /** What `tokens` were rendered from. */
  readonly messages: readonly Message[];
  readonly text: string;
}

/** Samples in the order of their records, and how many records were left out. */
export interface Encoded<T> {
  readonly samples: readonly T[];
  readonly dropped: ReasonCounts;
}

/** Called as encoding goes on, with records done and in all. */
export type EncodeProgress = (done: number, total: number) => void;

/** Settings of `encodeDemonstrations`. */
export interface DemonstrationOptions {
  /** Tokens. */
  readonly maxSeqLen: number;
  /** "answer": the assistant turns that the record wants imitated, ends of turn included; "all": every token but the first. */
  readonly lossOn: "answer" | "all";
  /** Cuts longer samples at the right, as DeepSpeed-Chat does, instead of dropping them; a cut answer has no end of turn. */
  readonly truncate?: boolean;
  readonly onProgress?: EncodeProgress;
}

/** Settings of `encodePreferences`. */
export interface PreferenceOptions {
  /** Tokens. */
  readonly maxSeqLen: number;
  readonly onProgress?: EncodeProgress;
}

/** Settings of `encodePrompts`. */
export interface PromptOptions {
  /** Tokens. */
  readonly maxPromptLen: number;
  readonly onProgress?: EncodeProgress;
}

/**
 * SFT samples of demonstrations.
 *
 * @throws {ConfigError} if none fits into `maxSeqLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodeDemonstrations(
  records: readonly Demonstration[], encoder: ConversationEncoder, options: DemonstrationOptions,
): Promise<Encoded<SftSample>> {
  const { maxSeqLen, lossOn, truncate = false } = options;
  return encodeAll(records, { setting: "maxSeqLen", limit: maxSeqLen, onProgress: options.onProgress }, async (record) => {
    const { tokens, answerStart, assistantMask } = await encodeAnswer(encoder, record.prompt, record.answer);
    const lossMask = assistantMask.slice(0, maxSeqLen).map((isAssistant, i) => {
      if (lossOn === "all") return i > 0;
      return record.trainedTurns === "all" ? isAssistant : i >= answerStart;
    });
    const fits = truncate ? lossMask.includes(true) : tokens.length <= maxSeqLen;
    return { length: tokens.length, sample: fits ? { tokens: tokens.slice(0, maxSeqLen), lossMask } : undefined };
  });
}

/**
 * Pairs for the reward model or DPO. A pair is dropped if either side is longer than `maxSeqLen` tokens; DeepSpeed-Chat cuts it,
 * which may leave two equal sides.
 *
 * @throws {ConfigError} if none fits into `maxSeqLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodePreferences(
  records: readonly Preference[], encoder: ConversationEncoder, options: PreferenceOptions,
): Promise<Encoded<PreferencePair>> {
  const limits = { setting: "maxSeqLen", limit: options.maxSeqLen, onProgress: options.onProgress };
  return encodeAll(records, limits, async ({ prompt, chosen, rejected }) => {
    const [better, worse] = await Promise.all([encodeAnswer(encoder, prompt, chosen), encodeAnswer(encoder, prompt, rejected)]);
    const length = Math.max(better.tokens.length, worse.tokens.length);
    const fits = length <= options.maxSeqLen;
    return { length, sample: fits ? { chosen: better.tokens, rejected: worse.tokens, promptLength: better.answerStart } : undefined };
  });
}

/**
 * Prompts for PPO. Those longer than `maxPromptLen` tokens are dropped, as in DeepSpeed-Chat.
 *
 * @throws {ConfigError} if none fits into `maxPromptLen`, and with file and line if the chat template refuses a dialogue
 */
export function encodePrompts(
  records: readonly PromptRecord[], encoder: ConversationEncoder, options: PromptOptions,
): Promise<Encoded<PromptSample>> {
  const limits = { setting: "maxPromptLen", limit: options.maxPromptLen, onProgress: options.onProgress };
  return encodeAll(records, limits, async ({ prompt }) => {
    const tokens = await encoder.encodePrompt(prompt);
    const fits = tokens.length <= options.maxPromptLen;
    return { length: tokens.length, sample: fits ? { tokens, messages: prompt, text: prompt.at(-1)?.content ?? "" } : undefined };
  });
}

/** A dialogue and its answer; the answer begins at `answerStart` and goes to the end. */
async function encodeAnswer(encoder: ConversationEncoder, prompt: readonly Message[], answer: string) {
  const { tokens, assistantMask } = await encoder.encodeConversation([...prompt, { role: "assistant", content: answer }]);
  return { tokens, assistantMask, answerStart: assistantMask.lastIndexOf(false) + 1 };
}

interface Limits {
  /** Name of the setting, for the message. */
  readonly setting: string;
  /** Tokens. */
  readonly limit: number;
  readonly onProgress: EncodeProgress | undefined;
}

/** Records encoded at a time: enough to keep the tokenizer's threads busy, few enough to hold little in memory. */
const CONCURRENCY = 64;

/** Encodes every record; one without a sample was too long. `length` is in tokens. */
async function encodeAll<R extends { readonly origin: Origin }, T>(
  records: readonly R[], { setting, limit, onProgress }: Limits, encode: (record: R) => Promise<{ length: number; sample: T | undefined }>,
): Promise<Encoded<T>> {
  const samples: T[] = [];
  const dropped: Record<string, number> = {};
  let shortest = Infinity;
  for (let start = 0; start < records.length; start += CONCURRENCY) {
    const chunk = records.slice(start, start + CONCURRENCY);
    for (const { length, sample } of await Promise.all(chunk.map((record) => withOrigin(record, encode)))) {
      shortest = Math.min(shortest, length);
      if (sample === undefined) countReason(dropped, `longer than ${setting} ${limit}`);
      else samples.push(sample);
    }
    onProgress?.(start + chunk.length, records.length);
  }
  if (samples.length === 0 && records.length > 0) {
    throw new ConfigError(`${setting} ${limit}: expected records of at most ${limit} tokens, found ${records.length}, ` +
      `the shortest of ${shortest} tokens; raise ${setting} or shorten the data`);
  }
  return { samples, dropped };
}

async function withOrigin<R extends { readonly origin: Origin }, T>(record: R, encode: (record: R) => Promise<T>): Promise<T> {
  try {
    return await encode(record);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(`${record.origin.path}:${record.origin.line}: ${error.message}`, { cause: error });
  }
}
