import { ConfigError } from "../errors.ts";
import { shuffleIndices } from "./shuffle.ts";

/** Records to train on and records kept for evaluation, both in their given order. */
export interface HeldOut<T> {
  readonly train: readonly T[];
  readonly heldOut: readonly T[];
}

/**
 * Divides `records` by chance into a part to train on and a part for evaluation.
 * The choice depends on `seed` and the number of records only, so steps that load the same files hold out the same records.
 *
 * @param share a fraction in (0, 1), rounded to at least one record; a whole number of records; or 0 for none
 * @throws {ConfigError} if `share` is none of these or leaves nothing to train on
 */
export function holdOut<T>(records: readonly T[], share: number, seed: number): HeldOut<T> {
  const isHeldOut = heldOutMask(records.length, share, seed);
  return { train: records.filter((_, i) => !isHeldOut[i]), heldOut: records.filter((_, i) => isHeldOut[i]) };
}

/** `holdOut` for a list of numbers. @throws {ConfigError} as `holdOut` */
export function holdOutNumbers(records: Uint32Array, share: number, seed: number): { train: Uint32Array; heldOut: Uint32Array } {
  const isHeldOut = heldOutMask(records.length, share, seed);
  return { train: records.filter((_, i) => !isHeldOut[i]), heldOut: records.filter((_, i) => isHeldOut[i]) };
}

/** 1 for each of `size` records that is held out. */
function heldOutMask(size: number, share: number, seed: number): Uint8Array {
  if (!(share >= 0) || (share >= 1 && !Number.isInteger(share))) {
    throw new ConfigError(`held-out share: expected a fraction in [0, 1) or a whole number of records, found ${share}`);
  }
  const mask = new Uint8Array(size);
  if (share === 0) return mask;
  const count = share < 1 ? Math.max(1, Math.round(share * size)) : share;
  if (count >= size) {
    throw new ConfigError(`held-out share ${share}: expected fewer than the ${size} records there are, found ${count}; ` +
      "hold out less or add data");
  }
  for (const i of shuffleIndices(seed, size).subarray(0, count)) mask[i] = 1;
  return mask;
}
