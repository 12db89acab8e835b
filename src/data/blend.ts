import { ConfigError } from "../errors.ts";
import { concat } from "./drawn-sets.ts";
import { shuffleIndices } from "./shuffle.ts";
import type { DataSource } from "./sources/source.ts";
import { splitRows, type Step } from "./split.ts";

/** The lines of a source that a step gets, and their order. */
export interface Share {
  /** 1 for each line of the source that is in the share. */
  readonly isIn: Uint8Array;
  /** Numbers of these lines, counted among themselves from 0, in the order of the split. */
  readonly order: Uint32Array;
}

/**
 * The share that `step` gets of a source with `numLines` lines. A source with `steps` is divided among these alone, so one for a
 * single step is used whole, as DeepSpeed-Chat uses its SFT-only data.
 *
 *     shareOf(6, "2,4,4", 1234, "sft") // isIn and order of the first 1 of shuffleIndices(1234, 6)
 *
 * @throws {ConfigError} unless `split` has three shares
 */
export function shareOf(numLines: number, step: Step, { split, seed, steps }: ShareOptions): Share {
  const isIn = new Uint8Array(numLines);
  if (split === undefined) return { isIn: isIn.fill(1), order: Uint32Array.from({ length: numLines }, (_, i) => i) };
  const lines = splitRows(numLines, step, { spec: split, seed, steps });
  for (const line of lines) isIn[line] = 1;
  const rank = new Uint32Array(numLines);
  let count = 0;
  for (let line = 0; line < numLines; line++) if (isIn[line] === 1) rank[line] = count++;
  return { isIn, order: lines.map((line) => rank[line]!) };
}

/** What decides a share, besides the step. */
export interface ShareOptions {
  readonly split: string | undefined;
  readonly seed: number;
  readonly steps?: readonly Step[] | undefined;
}

/**
 * The sources that a step uses: those of all steps first, then those with `steps`.
 *
 * @throws {ConfigError} if some have a weight and some have none
 */
export function sourcesFor(sources: readonly (string | DataSource)[], step: Step): DataSource[] {
  const used = sources.map((source) => (typeof source === "string" ? { path: source } : source))
    .filter(({ steps }) => steps === undefined || steps.includes(step));
  const numWeights = used.filter(({ weight }) => weight !== undefined).length;
  if (numWeights > 0 && numWeights < used.length) {
    const without = used.find(({ weight }) => weight === undefined)?.path ?? "";
    throw new ConfigError(`data: expected a weight for every source of step ${step} or for none, found none for ${without}; add it`);
  }
  return [...used.filter(({ steps }) => steps === undefined), ...used.filter(({ steps }) => steps !== undefined)];
}

/** The records of one source: numbers below `size`, in the order in which blending takes them. */
export interface BlendPart {
  readonly size: number;
  readonly order: Uint32Array;
  /** Whether the source has `steps`. */
  readonly isExtra: boolean;
}

/**
 * All records of all parts as one list; a number stands for the record `number - offsets[part]` of its part. As in DeepSpeed-Chat
 * the parts are put one after the other and, if there are several, shuffled together; extra parts are added behind that and everything
 * is shuffled again.
 */
export function blend(parts: readonly BlendPart[], seed: number): Uint32Array {
  const offsets = offsetsOf(parts.map(({ size }) => size));
  const numbers = parts.map(({ order }, i) => order.map((record) => record + offsets[i]!));
  const isExtra = (i: number) => parts[i]?.isExtra === true;
  const common = numbers.filter((_, i) => !isExtra(i)), extra = numbers.filter((_, i) => isExtra(i));
  const first = common.length > 1 ? shuffled(concat(common), seed) : concat(common);
  if (extra.length === 0) return first;
  return common.length + extra.length > 1 ? shuffled(concat([first, ...extra]), seed) : concat(extra);
}

/** Where each part begins when all stand one after the other, and at the end where the last one ends. */
export function offsetsOf(sizes: readonly number[]): number[] {
  const offsets = [0];
  for (const size of sizes) offsets.push(offsets.at(-1)! + size);
  return offsets;
}

/** The part that `number` falls into. */
export function partOf(offsets: readonly number[], number: number): number {
  let low = 0, high = offsets.length - 2;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (offsets[middle]! <= number) low = middle;
    else high = middle - 1;
  }
  return low;
}

function shuffled(numbers: Uint32Array, seed: number): Uint32Array {
  return shuffleIndices(seed, numbers.length).map((i) => numbers[i]!);
}
