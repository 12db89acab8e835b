import type { DType } from "../native/binding.ts";
import { fromNumbers, indices } from "../tensor/create.ts";
import { Tensor } from "../tensor/tensor.ts";

/** Token ids of a batch: one array a row, or [batch, seq] of any integer dtype. */
export type TokenBatch = readonly (readonly number[])[] | Tensor;
/** What counts in a token batch: 0 and 1, booleans, or a tensor of any numeric or bool dtype. */
export type AttentionMask = readonly (readonly (number | boolean)[])[] | Tensor;

/**
 * Sequences laid end to end, with nothing between them. Example: rows [5, 6, 7] and [8, 9] are
 * `tokens` 5 6 7 8 9, `positions` 0 1 2 0 1, `offsets` 0 3 5.
 */
export interface PackedRows {
  /** [total] int64. */
  tokens: Tensor;
  /** [total] int64: place of each token in its own sequence. */
  positions: Tensor;
  /** Where each sequence starts, and the total at the end: batch + 1 numbers. */
  offsets: readonly number[];
}

/**
 * Packs sequences.
 *
 * @throws {RangeError} for a sequence without tokens
 */
export function packRows(rows: readonly (readonly number[])[]): PackedRows {
  const offsets = [0];
  const positions: number[] = [];
  for (const [i, row] of rows.entries()) {
    if (row.length === 0) throw new RangeError(`sequence ${i} is empty: every sequence needs at least one token`);
    for (let p = 0; p < row.length; p++) positions.push(p);
    offsets.push(positions.length);
  }
  return { tokens: indices(rows.flat()), positions: indices(positions), offsets };
}

/** A padded batch as sequences without padding, and where each counted token stood. */
export interface UnpaddedBatch {
  /** The counted tokens of each row. */
  rows: number[][];
  batchSize: number;
  /** Width of the padded rows. */
  width: number;
  /** For each counted token, in packed order, its index `row * width + column`. */
  places: number[];
}

/**
 * Takes the padding, on either side or in between, out of a batch.
 *
 * @throws {RangeError} when rows differ in length, or the mask in shape from the tokens
 */
export function unpad(tokens: TokenBatch, attentionMask?: AttentionMask): UnpaddedBatch {
  const grid = toRows(tokens);
  const mask = attentionMask === undefined ? undefined : toRows(attentionMask);
  const width = grid[0]?.length ?? 0;
  if (mask && mask.length !== grid.length) throw new RangeError(`attentionMask has ${mask.length} rows, tokens have ${grid.length}`);
  const places: number[] = [];
  const rows = grid.map((row, i) => {
    const counted = mask?.[i];
    if (row.length !== width) {
      throw new RangeError(
        `row ${i} has ${row.length} tokens, row 0 has ${width}: pad the rows to one length and pass an attentionMask`,
      );
    }
    if (counted && counted.length !== width) {
      throw new RangeError(`attentionMask row ${i} has ${counted.length} entries, its tokens ${width}`);
    }
    return row.filter((_, j) => {
      if (counted && !counted[j]) return false;
      places.push(i * width + j);
      return true;
    });
  });
  return { rows, batchSize: grid.length, width, places };
}

function toRows(batch: TokenBatch | AttentionMask): number[][] {
  if (batch instanceof Tensor) {
    const [height, width] = batch.shape;
    if (batch.shape.length !== 2 || height === undefined || width === undefined) {
      throw new RangeError(`expected [batch, seq], got ${batch}`);
    }
    const numbers = batch.numbers();
    return Array.from({ length: height }, (_, i) => numbers.slice(i * width, (i + 1) * width));
  }
  return batch.map((row) => row.map(Number));
}

/** Rows of unequal length as [batch, width] with `fill` on the right. */
export function padRight(rows: readonly (readonly number[])[], width: number, fill: number, dtype: DType): Tensor {
  return fromNumbers(rows.flatMap((row) => [...row, ...new Array<number>(width - row.length).fill(fill)]), [rows.length, width], dtype);
}
