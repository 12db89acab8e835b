import { ConfigError } from "../errors.ts";
import { type DrawnSet, drawnRows } from "./drawn-sets.ts";
import { epochOrder } from "./shuffle.ts";

/** Where training stands in its data, for resuming: `index` samples of epoch `epoch` (from 0) have been taken. */
export interface SamplerState {
  readonly epoch: number;
  readonly index: number;
}

/** The samples of one minibatch (as indices into the data set) and the state to resume from after it. */
export interface Minibatch {
  readonly rows: readonly number[];
  readonly next: SamplerState;
}

/** What `trainingBatches` runs over. */
export interface SamplerOptions {
  /** Samples in the data set. */
  readonly size: number;
  /** Samples in one minibatch. */
  readonly batchSize: number;
  readonly seed: number;
  readonly numEpochs: number;
  /** Whether a last minibatch with fewer than `batchSize` samples is left out; false if not given. */
  readonly dropLast?: boolean;
  /** Sets that an epoch takes fixed numbers of; without them it takes every sample once. */
  readonly sets?: readonly DrawnSet[] | undefined;
  /** Where to go on; the start if not given. */
  readonly from?: SamplerState;
}

/**
 * `order` cut into runs of `batchSize`, from position `start` on.
 *
 *     [...minibatches([4, 0, 3, 1, 2], 2)]             // [4, 0], [3, 1], [2]
 *     [...minibatches([4, 0, 3, 1, 2], 2, { start: 2 })] // [3, 1], [2]
 *
 * @throws {RangeError} unless `batchSize` is a whole number of at least 1
 * @throws {ConfigError} if `dropLast` would leave nothing of a whole order
 */
export function* minibatches(
  order: ArrayLike<number>, batchSize: number, { dropLast = false, start = 0 }: { dropLast?: boolean; start?: number } = {},
): Generator<number[]> {
  if (!Number.isInteger(batchSize) || batchSize < 1) {
    throw new RangeError(`batchSize: expected a whole number of at least 1, got ${batchSize}`);
  }
  if (dropLast && order.length < batchSize) {
    throw new ConfigError(`a batch of ${batchSize}: expected as many samples, found ${order.length}; lower the batch size or add data`);
  }
  const end = dropLast ? order.length - batchSize + 1 : order.length;
  for (let i = start; i < end; i += batchSize) {
    yield Array.from({ length: Math.min(batchSize, order.length - i) }, (_, k) => order[i + k]!);
  }
}

/**
 * The minibatches of all epochs, each with the state to resume from after it; going on from a saved state gives the rest
 * exactly as an uninterrupted run would.
 */
export function* trainingBatches(options: SamplerOptions): Generator<Minibatch> {
  const { size, sets, batchSize, seed, numEpochs, dropLast = false, from = { epoch: 0, index: 0 } } = options;
  for (let epoch = from.epoch; epoch < numEpochs; epoch++) {
    let index = epoch === from.epoch ? from.index : 0;
    const order = sets === undefined ? epochOrder(size, seed, epoch) : drawnRows(sets, seed, epoch);
    for (const rows of minibatches(order, batchSize, { dropLast, start: index })) {
      index += rows.length;
      yield { rows, next: { epoch, index } };
    }
  }
}

/**
 * The part of a minibatch that one rank computes: the parts of all ranks in their order are the minibatch, no sample is in two of them,
 * and their sizes differ by one at most. So every number of ranks sees the same minibatches as one process; a part may be empty.
 *
 *     shard([4, 0, 3, 1, 2], 0, 2) // [4, 0]
 *     shard([4, 0, 3, 1, 2], 1, 2) // [3, 1, 2]
 *
 * @throws {RangeError} unless 0 <= `rank` < `worldSize`, whole numbers
 */
export function shard<T>(rows: readonly T[], rank: number, worldSize: number): T[] {
  if (!Number.isInteger(worldSize) || !Number.isInteger(rank) || rank < 0 || rank >= worldSize) {
    throw new RangeError(`shard: expected a rank in [0, ${worldSize - 1}], got ${rank}`);
  }
  return rows.slice(Math.floor((rank * rows.length) / worldSize), Math.floor(((rank + 1) * rows.length) / worldSize));
}
