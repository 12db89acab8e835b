import { ConfigError } from "../errors.ts";
import { shuffleIndices } from "./shuffle.ts";

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
  /** Where to go on; the start if not given. */
  readonly from?: SamplerState;
}

/**
 * The order in which epoch `epoch` (from 0) visits `size` samples: `shuffleIndices` with a seed of its own,
 *
 *     (seed + (epoch + 1) * 0x9e3779b9) mod 2^32
 *
 * so no epoch repeats another, nor the shuffle that split or blended the data. DeepSpeed-Chat replays one order in every epoch.
 */
export function epochOrder(size: number, seed: number, epoch: number): Uint32Array {
  return shuffleIndices((seed + Math.imul(epoch + 1, 0x9e3779b9)) >>> 0, size);
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
  const { size, batchSize, seed, numEpochs, dropLast = false, from = { epoch: 0, index: 0 } } = options;
  for (let epoch = from.epoch; epoch < numEpochs; epoch++) {
    let index = epoch === from.epoch ? from.index : 0;
    for (const rows of minibatches(epochOrder(size, seed, epoch), batchSize, { dropLast, start: index })) {
      index += rows.length;
      yield { rows, next: { epoch, index } };
    }
  }
}
