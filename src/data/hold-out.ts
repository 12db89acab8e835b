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
  if (!(share >= 0) || (share >= 1 && !Number.isInteger(share))) {
    throw new ConfigError(`held-out share: expected a fraction in [0, 1) or a whole number of records, found ${share}`);
  }
  if (share === 0) return { train: records, heldOut: [] };
  const count = share < 1 ? Math.max(1, Math.round(share * records.length)) : share;
  if (count >= records.length) {
    throw new ConfigError(`held-out share ${share}: expected fewer than the ${records.length} records there are, found ${count}; ` +
      "hold out less or add data");
  }
  const isHeldOut = new Set(shuffleIndices(seed, records.length).subarray(0, count));
  return { train: records.filter((_, i) => !isHeldOut.has(i)), heldOut: records.filter((_, i) => isHeldOut.has(i)) };
}
