import { epochOrder } from "./shuffle.ts";

/** Samples of one source, of which every epoch takes a fixed number. */
export interface DrawnSet {
  /** Indices of its samples in the training set. */
  readonly rows: Uint32Array;
  /** How many an epoch takes; more than there are repeats some, fewer leaves some to the next epochs. */
  readonly count: number;
}

/**
 * How many samples of each set an epoch takes, so that they are in the proportions of `weights` and as many in all as there are.
 *
 *     epochCounts([100, 300], [1, 1]) // [200, 200]
 */
export function epochCounts(sizes: readonly number[], weights: readonly number[]): number[] {
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const totalWeight = weights.reduce((sum, weight) => sum + weight, 0);
  let weightBefore = 0, countBefore = 0;
  return weights.map((weight) => {
    weightBefore += weight;
    const end = Math.round((weightBefore / totalWeight) * total), count = end - countBefore;
    countBefore = end;
    return count;
  });
}

/**
 * The samples of epoch `epoch` (from 0) in their order. Each set is gone through again and again, in a new order each time, and an
 * epoch takes up where the last one left off: so all samples of a set are seen equally often, give or take one.
 */
export function drawnRows(sets: readonly DrawnSet[], seed: number, epoch: number): Uint32Array {
  const drawn = sets.flatMap(({ rows, count }, set) => (count === 0 ? [] : [stretch(rows, epoch * count, count, seed + set)]));
  const all = concat(drawn);
  return epochOrder(all.length, seed, epoch).map((i) => all[i]!);
}

/** `count` rows from position `start` of the endless list of all passes. */
function stretch(rows: Uint32Array, start: number, count: number, seed: number): Uint32Array {
  const result = new Uint32Array(count);
  let pass = -1, order: Uint32Array = result;
  for (let i = 0; i < count; i++) {
    const position = start + i;
    const wanted = Math.floor(position / rows.length);
    if (wanted !== pass) [pass, order] = [wanted, epochOrder(rows.length, seed, wanted)];
    result[i] = rows[order[position % rows.length]!]!;
  }
  return result;
}

/** All lists, one after the other. */
export function concat(lists: readonly Uint32Array[]): Uint32Array {
  const result = new Uint32Array(lists.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const list of lists) {
    result.set(list, offset);
    offset += list.length;
  }
  return result;
}
