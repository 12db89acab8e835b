import { ConfigError } from "../errors.ts";
import { shuffleIndices } from "./shuffle.ts";

/** A training step, by the name of its command. */
export type Step = "sft" | "reward" | "dpo" | "ppo";

/** Which part of a three-way split each step gets. DPO learns from preferences and takes the reward model's, as in DeepSpeed-Chat. */
const PART_OF_STEP: Readonly<Record<Step, number>> = { sft: 0, reward: 1, dpo: 1, ppo: 2 };

/**
 * The boundaries that divide `size` records in the proportions of `spec`: part i is [bounds[i], bounds[i + 1]).
 *
 *     bounds[0] = 0
 *     bounds[i + 1] = bounds[i] + round(share_i / sum of shares * size)    (halves go to the even neighbour)
 *     every bound after the first -= bounds[last] - size
 *
 *     splitBounds(11, "2,4,4") // [0, 3, 7, 11]
 *
 * This is DeepSpeed-Chat's rule, with one difference: a bound that the correction would make negative is 0
 * (size 5, "0,3,7"), where the original gives the part before it nearly every record.
 *
 * @throws {ConfigError} unless `spec` is a list of numbers, none negative and not all 0
 */
export function splitBounds(size: number, spec: string): number[] {
  return boundsOf(size, parseShares(spec));
}

/**
 * The indices of the records that a step gets of a file with `size` records: its part of the shuffled whole.
 *
 *     splitForStep(10, "2,4,4", 1234, "sft") // [7, 2], the first two of shuffleIndices(1234, 10)
 *
 * @throws {ConfigError} unless `spec` has three shares (SFT; reward model or DPO; PPO)
 */
export function splitForStep(size: number, spec: string, seed: number, step: Step): number[] {
  return Array.from(splitRows(size, step, { spec, seed }));
}

/**
 * `splitForStep` for a file that only `steps` use: the shares of others count as 0.
 *
 * @throws {ConfigError} as `splitForStep`, and if the shares of `steps` are all 0
 */
export function splitRows(
  size: number, step: Step, { spec, seed, steps }: { spec: string; seed: number; steps?: readonly Step[] | undefined },
): Uint32Array {
  const shares = parseShares(spec);
  if (shares.length !== 3) {
    throw new ConfigError(
      `split "${spec}": expected three shares (SFT, reward model, PPO), found ${shares.length}; write for example "2,4,4"`,
    );
  }
  const isUsed = (part: number) => steps === undefined || steps.some((name) => PART_OF_STEP[name] === part);
  const used = shares.map((share, part) => (isUsed(part) ? share : 0));
  if (used.every((share) => share === 0)) {
    throw new ConfigError(`split "${spec}": expected a share for ${steps?.join(" or ")}, found 0; leave the data of this step out`);
  }
  const bounds = boundsOf(size, used);
  const part = PART_OF_STEP[step];
  return shuffleIndices(seed, size).subarray(bounds[part], bounds[part + 1]);
}

function parseShares(spec: string): number[] {
  const parts = spec.split(",").map((part) => part.trim());
  const shares = parts.map(Number);
  const areShares = parts.every((part) => part !== "") && shares.every((share) => Number.isFinite(share) && share >= 0);
  if (!areShares || shares.every((share) => share === 0)) {
    throw new ConfigError(`split "${spec}": expected numbers of at least 0, not all 0, between commas; write for example "2,4,4"`);
  }
  return shares;
}

function boundsOf(size: number, shares: readonly number[]): number[] {
  const total = shares.reduce((sum, share) => sum + share, 0);
  const bounds = [0];
  let end = 0;
  for (const share of shares) {
    end += roundHalfToEven((share / total) * size);
    bounds.push(end);
  }
  const excess = end - size;
  return bounds.map((bound, i) => (i === 0 ? 0 : Math.max(0, bound - excess)));
}

function roundHalfToEven(x: number): number {
  const floor = Math.floor(x);
  const fraction = x - floor;
  if (fraction !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
