import { encodeDemonstrations, encodePreferences, encodePrompts } from "../data/encode.ts";
import { type DataRecord, type PromptRecord, recordForStep } from "../data/records.ts";
import { stepNames, type StepName } from "../config/step.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Tally } from "./tally.ts";
import { type Paint, widthOf } from "./terminal-text.ts";

/** Limits of a length in tokens. */
export interface LengthLimits {
  readonly maxSeqLen: number;
  readonly maxPromptLen: number;
}

/** The setting that limits the lengths of a step, and its value. */
export function limitOf(step: StepName, { maxSeqLen, maxPromptLen }: LengthLimits): { setting: string; limit: number } {
  return step === "ppo" ? { setting: "--max-prompt-len", limit: maxPromptLen } : { setting: "--max-seq-len", limit: maxSeqLen };
}

/** Whether a step can train on a record. */
export function serves(record: DataRecord, step: StepName): boolean {
  if (step === "reward") return record.kind === "preference";
  return step === "sft" ? record.kind !== "prompt" : record.prompt !== "";
}

/** Lengths in tokens of records as `step` sees them; of a pair, that of its longer side. */
export async function tokenLengths(records: readonly DataRecord[], step: StepName, tokenizer: Tokenizer): Promise<number[]> {
  const noLimit = { maxSeqLen: Infinity, maxPromptLen: Infinity };
  switch (step) {
    case "sft": {
      const demonstrations = records.map((record) => recordForStep(record, step));
      const { samples } = await encodeDemonstrations(demonstrations, tokenizer, { ...noLimit, lossOn: "answer" });
      return samples.map(({ tokens }) => tokens.length);
    }
    case "reward": {
      const { samples } = await encodePreferences(records.map((record) => recordForStep(record, step)), tokenizer, noLimit);
      return samples.map(({ chosen, rejected }) => Math.max(chosen.length, rejected.length));
    }
    case "ppo": {
      const prompts: PromptRecord[] = records.map((record) => recordForStep(record, step));
      return (await encodePrompts(prompts, tokenizer, noLimit)).samples.map(({ tokens }) => tokens.length);
    }
    default: return step satisfies never;
  }
}

/** Length in characters of a record's texts. */
export function characterLength(record: DataRecord): number {
  const texts = typeof record.prompt === "string" ? [record.prompt] : record.prompt.map(({ content }) => content);
  const prompt = texts.reduce((sum, text) => sum + text.length, 0);
  if (record.kind === "prompt") return prompt;
  return prompt + (record.kind === "demonstration" ? record.answer.length : Math.max(record.chosen.length, record.rejected.length));
}

/** Counts records that are longer than the limits. */
export interface Lengths {
  readonly add: (record: DataRecord, notes: Tally) => Promise<void>;
  /** Measures what is waiting. */
  readonly finish: (notes: Tally) => Promise<void>;
}

/** Records that are tokenized together. */
const CHUNK = 64;

/** The counter of records that are too long for the steps that can use them. */
export function lengthCounter(tokenizer: Tokenizer, limits: LengthLimits): Lengths {
  let waiting: DataRecord[] = [];
  const finish = async (notes: Tally): Promise<void> => {
    const records = waiting;
    waiting = [];
    for (const step of stepNames) {
      const usable = records.filter((record) => serves(record, step));
      const { setting, limit } = limitOf(step, limits);
      for (const [i, length] of (await tokenLengths(usable, step, tokenizer)).entries()) {
        const origin = usable[i]?.origin;
        if (length > limit) notes.add(`too long for ${step}: more than ${limit} tokens (${setting})`, `${origin?.path}:${origin?.line}`);
      }
    }
  };
  return {
    finish,
    add: async (record, notes) => {
      waiting.push(record);
      if (waiting.length >= CHUNK) await finish(notes);
    },
  };
}

/** A part of the blocks, eighths of a column wide. */
const BLOCKS = ["", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"];

/**
 * A histogram of whole numbers in at most 12 lines of `columns` columns. With a limit, bars beyond it are red, and one line says
 * what share lies there.
 *
 *     histogram([1, 2, 2, 3, 9], { columns: 40, paint: plain }) // "0   ██████████  20.0%", ...
 */
export function histogram(lengths: readonly number[], options: { columns: number; paint: Paint; limit?: number }): string[] {
  const { columns, paint, limit } = options;
  if (lengths.length === 0) return [];
  const sorted = [...lengths].sort((a, b) => a - b);
  const top = sorted.at(-1)!;
  // The last bin is open where few are very long, so that one record of 100,000 tokens does not press all others into one bin.
  const shown = Math.max(limit ?? 0, sorted[Math.floor(0.98 * (sorted.length - 1))]!, 1);
  const width = binWidth(shown, limit);
  const numBins = Math.ceil((shown + 1) / width);
  const counts = new Array<number>(numBins + (top >= numBins * width ? 1 : 0)).fill(0);
  for (const length of lengths) {
    const bin = Math.min(Math.floor(length / width), counts.length - 1);
    counts[bin] = counts[bin]! + 1;
  }
  const labels = counts.map((_, i) => {
    if (i === numBins) return `${i * width} and more`;
    return width === 1 ? `${i}` : `${i * width} - ${(i + 1) * width - 1}`;
  });
  const labelWidth = Math.max(...labels.map(widthOf));
  const room = Math.max(10, Math.min(60, columns - labelWidth - 13));
  const most = Math.max(...counts);
  return counts.map((count, i) => {
    const eighths = Math.round((count / most) * room * 8);
    const bar = "\u2588".repeat(Math.floor(eighths / 8)) + BLOCKS[eighths % 8];
    const isOver = limit !== undefined && i * width >= limit && (i + 1) * width - 1 > limit; // the limit itself still fits
    return `  ${labels[i]!.padStart(labelWidth)}  ${paint(isOver ? "red" : "green", bar)} ${percent(count, lengths.length)}`;
  });
}

/** `12.3%` */
export function percent(part: number, whole: number): string {
  return `${((100 * part) / whole).toFixed(1)}%`;
}

/** A round width that gives at most 11 bins; with a limit one that divides it where that is possible. */
function binWidth(shown: number, limit: number | undefined): number {
  const least = Math.ceil((shown + 1) / 11);
  if (limit !== undefined && least <= limit) {
    for (const parts of [8, 4, 2, 1]) {
      if (limit % parts === 0 && limit / parts >= least) return limit / parts;
    }
  }
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= least) ?? least;
}
