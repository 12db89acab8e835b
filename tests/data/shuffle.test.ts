import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shuffleIndices } from "../../src/data/shuffle.ts";

describe("shuffleIndices", () => {
  // numpy.random.RandomState(seed).shuffle(numpy.arange(size)): the first 12 entries, and the sum of entry times index.
  test.each([
    [1234, 10, [7, 2, 9, 1, 0, 8, 4, 5, 6, 3], 197],
    [1234, 1000, [681, 990, 155, 768, 438, 363, 688, 555, 620, 99, 756, 428], 251398022],
    [42, 2312, [1646, 509, 1882, 44, 1586, 1237, 1338, 1922, 2026, 1633, 1578, 471], 3112973423],
    [7, 99991, [5637, 19219, 10911, 74381, 32833, 20880, 53581, 52487, 71240, 14279, 69251, 43312], 250216213077520],
  ])("is NumPy's legacy shuffle for seed %i and size %i", (seed, size, head, sum) => {
    const order = shuffleIndices(seed, size);
    expect(order).toHaveLength(size);
    expect(Array.from(order.subarray(0, 12))).toEqual(head);
    expect(Array.from(order).reduce((total, value, i) => total + value * i, 0)).toBe(sum);
  });

  test("is a permutation that depends on the seed alone", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 0xffffffff }), fc.integer({ min: 0, max: 300 }), (seed, size) => {
      const order = shuffleIndices(seed, size);
      expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from({ length: size }, (_, i) => i));
      expect(shuffleIndices(seed, size)).toEqual(order);
    }));
    expect(shuffleIndices(1, 100)).not.toEqual(shuffleIndices(2, 100));
  });

  test.each([[-1, 3], [0.5, 3], [2 ** 32, 3], [1, -1], [1, NaN]])("refuses seed %d with size %d", (seed, size) => {
    expect(() => shuffleIndices(seed, size)).toThrow(/^(seed|size): expected a whole number in \[0, 4294967295\], got /);
  });
});
