import fc from "fast-check";

/** Random rollouts of 1 to 5 rows and 1 to 6 columns as plain numbers; masks may have holes, and every mask has a true place. */
export interface Batch {
  logprobs: number[][];
  oldLogprobs: number[][];
  values: number[][];
  oldValues: number[][];
  rewards: number[][];
  responseMask: boolean[][];
}

const number = fc.integer({ min: -3000, max: 3000 }).map((x) => x / 1000);

export const batches: fc.Arbitrary<Batch> = fc
  .tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 6 }))
  .chain(([rows, columns]) => {
    const grid = <T>(element: fc.Arbitrary<T>): fc.Arbitrary<T[][]> => {
      const row = fc.array(element, { minLength: columns, maxLength: columns });
      return fc.array(row, { minLength: rows, maxLength: rows });
    };
    return fc.record({
      logprobs: grid(number),
      oldLogprobs: grid(number),
      values: grid(number),
      oldValues: grid(number),
      rewards: grid(number),
      responseMask: grid(fc.boolean()).filter((mask) => mask.flat().includes(true)),
    });
  });

/** Number of true places. */
export function countTrue(mask: readonly (readonly boolean[])[]): number {
  return mask.flat().filter(Boolean).length;
}

/** Each row with `columns` more of `value`. */
export function append<T>(rows: readonly (readonly T[])[], columns: number, value: T): T[][] {
  return rows.map((row) => [...row, ...Array.from({ length: columns }, () => value)]);
}
