import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { trainingBatches } from "../../src/data/batches.ts";
import { drawnRows, epochCounts } from "../../src/data/drawn-sets.ts";

describe("epochCounts", () => {
  test.each([
    [[100, 900], [0.7, 0.3], [700, 300]],
    [[100, 300], [1, 1], [200, 200]],
    [[5, 5, 5], [1, 1, 1], [5, 5, 5]],
    [[10, 0], [3, 1], [8, 2]], // 10 * 3/4 = 7.5, rounded to 8, and the rest
  ])("%j by weights %j are %j", (sizes, weights, counts) => {
    expect(epochCounts(sizes, weights)).toEqual(counts);
  });

  test("add up to all samples, each within one of its share", () => {
    const sets = fc.array(fc.tuple(fc.integer({ min: 1, max: 500 }), fc.integer({ min: 1, max: 9 })), { minLength: 1, maxLength: 5 });
    fc.assert(fc.property(sets, (pairs) => {
      const sizes = pairs.map(([size]) => size), weights = pairs.map(([, weight]) => weight);
      const counts = epochCounts(sizes, weights);
      const total = sizes.reduce((a, b) => a + b), totalWeight = weights.reduce((a, b) => a + b);
      expect(counts.reduce((a, b) => a + b)).toBe(total);
      for (const [i, count] of counts.entries()) expect(Math.abs(count - (total * weights[i]!) / totalWeight)).toBeLessThanOrEqual(1);
    }));
  });
});

describe("drawnRows", () => {
  const sets = [{ rows: Uint32Array.of(0, 2, 4), count: 7 }, { rows: Uint32Array.of(1, 3, 5, 6, 7, 8, 9), count: 3 }];
  const countsOver = (numEpochs: number) => {
    const counts = new Array<number>(10).fill(0);
    for (let epoch = 0; epoch < numEpochs; epoch++) for (const row of drawnRows(sets, 1234, epoch)) counts[row]!++;
    return counts;
  };

  test("takes the number asked for of each set", () => {
    for (const epoch of [0, 1, 5]) {
      const rows = Array.from(drawnRows(sets, 1234, epoch));
      expect(rows.filter((row) => sets[0]!.rows.includes(row))).toHaveLength(7);
      expect(rows).toHaveLength(10);
    }
  });

  test("sees the samples of a set equally often, over epochs too", () => {
    // After 3 epochs: 21 draws of 3 samples are 7 each; 9 draws of 7 are 1 or 2.
    const counts = countsOver(3);
    expect([0, 2, 4].map((row) => counts[row])).toEqual([7, 7, 7]);
    expect([1, 3, 5, 6, 7, 8, 9].map((row) => counts[row]).toSorted()).toEqual([1, 1, 1, 1, 1, 2, 2]);
    // After 7: 21 draws of 7.
    expect([1, 3, 5, 6, 7, 8, 9].map((row) => countsOver(7)[row])).toEqual([3, 3, 3, 3, 3, 3, 3]);
  });

  test("depends on the seed and the epoch only", () => {
    expect(drawnRows(sets, 1, 0)).toEqual(drawnRows(sets, 1, 0));
    expect(drawnRows(sets, 1, 0)).not.toEqual(drawnRows(sets, 2, 0));
    expect(drawnRows(sets, 1, 0)).not.toEqual(drawnRows(sets, 1, 1));
  });

  test("is what trainingBatches goes through, from any state", () => {
    const options = { size: 10, sets, batchSize: 4, seed: 3, numEpochs: 3 };
    const whole = [...trainingBatches(options)];
    expect(whole.slice(0, 3).flatMap(({ rows }) => rows)).toEqual(Array.from(drawnRows(sets, 3, 0)));
    for (const [i, { next }] of whole.entries()) expect([...trainingBatches({ ...options, from: next })]).toEqual(whole.slice(i + 1));
  });
});
