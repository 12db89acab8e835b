import { ConfigError } from "../errors.ts";
import type { Message } from "../tokenizer/message.ts";
import type { Step } from "./split.ts";

/** The file and line that a record came from, for messages. */
export interface Origin {
  readonly path: string;
  readonly line: number;
}

/**
 * What an answer follows: a dialogue whose last message is the user's, or text that is encoded as it is, without a chat template.
 * Text to imitate as a whole follows the empty text.
 */
export type Prompt = readonly Message[] | string;

/** A prompt that waits for an answer. */
export interface PromptRecord {
  readonly kind: "prompt";
  readonly origin: Origin;
  readonly prompt: Prompt;
}

/**
 * A prompt with an answer to imitate.
 *
 *     { kind: "demonstration", prompt: [{ role: "user", content: "2 + 2?" }], answer: "4", trainedTurns: "last", origin }
 */
export interface Demonstration {
  readonly kind: "demonstration";
  readonly origin: Origin;
  readonly prompt: Prompt;
  /** Never blank. */
  readonly answer: string;
  /** Which assistant turns are to be imitated: only `answer`, or those inside `prompt` too. */
  readonly trainedTurns: "last" | "all";
}

/**
 * A prompt with two answers, of which people (or a rule) preferred the first.
 *
 *     { kind: "preference", prompt: [{ role: "user", content: "2 + 2?" }], chosen: "4", rejected: "5", origin }
 */
export interface Preference {
  readonly kind: "preference";
  readonly origin: Origin;
  readonly prompt: Prompt;
  /** Never blank. */
  readonly chosen: string;
  /** Never blank. */
  readonly rejected: string;
}

/** What one line of a data file holds, whatever shape it is written in. */
export type DataRecord = PromptRecord | Demonstration | Preference;

/** A line that is well formed but that no step can learn from; it is counted under its reason. */
export interface SkippedRecord {
  readonly kind: "skipped";
  readonly reason: string;
}

/** How many records were left out, by reason. */
export type ReasonCounts = Readonly<Record<string, number>>;

/** The record type that each step trains on. */
export interface StepRecords {
  sft: Demonstration;
  reward: Preference;
  dpo: Preference;
  ppo: PromptRecord;
}

/**
 * What a step uses of a record. SFT imitates the chosen answer of a preference; PPO needs no answer and drops it.
 *
 * @throws {ConfigError} with file, line and field if the record lacks what the step needs
 */
export function recordForStep<S extends Step>(record: DataRecord, step: S): StepRecords[S] {
  return FOR_STEP[step](record);
}

const FOR_STEP: { readonly [S in Step]: (record: DataRecord) => StepRecords[S] } = {
  sft: toDemonstration,
  reward: toPreference,
  dpo: toPreference,
  ppo: toPrompt,
};

function toPrompt({ origin, prompt }: DataRecord): PromptRecord {
  if (prompt !== "") return { kind: "prompt", origin, prompt };
  throw fieldError(origin, "prompt", { expected: "a prompt to answer", found: "text alone", advice: 'PPO needs "prompt" or "messages"' });
}

function toDemonstration(record: DataRecord): Demonstration {
  switch (record.kind) {
    case "demonstration":
      return record;
    case "preference":
      return { kind: "demonstration", origin: record.origin, prompt: record.prompt, answer: record.chosen, trainedTurns: "last" };
    case "prompt":
      throw fieldError(record.origin, "completion", {
        expected: "an answer to imitate",
        found: "a prompt alone",
        advice: 'SFT needs "completion", "chosen" or "messages" that end with the assistant',
      });
  }
}

function toPreference(record: DataRecord): Preference {
  if (record.kind === "preference") return record;
  throw fieldError(record.origin, "rejected", {
    expected: "an answer that was not preferred",
    found: "nothing",
    advice: 'reward models and DPO need "chosen" and "rejected"',
  });
}

/** What is wrong with a record: `data.jsonl:3: field "rejected": expected ..., found ...; ...`. */
export class RecordError extends ConfigError {
  readonly origin: Origin;
  /** The field that is wrong, such as `messages[1].role`; undefined where the record as a whole is. */
  readonly field: string | undefined;
  /** The message without file, line and field. */
  readonly problem: string;

  constructor(origin: Origin, field: string | undefined, problem: string, options?: ErrorOptions) {
    super(`${origin.path}:${origin.line}: ${field === undefined ? "" : `field "${field}": `}${problem}`, options);
    this.origin = origin;
    this.field = field;
    this.problem = problem;
  }
}

/** The error for a field of a record. */
export function fieldError(origin: Origin, field: string, text: { expected: string; found: string; advice: string }): RecordError {
  return new RecordError(origin, field, `expected ${text.expected}, found ${text.found}; ${text.advice}`);
}

/** `counts` with one more under `reason`. */
export function countReason(counts: Record<string, number>, reason: string): void {
  counts[reason] = (counts[reason] ?? 0) + 1;
}
