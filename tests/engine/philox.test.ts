import { expect, test } from "vitest";
import { philox, uniformAt } from "../../src/engine/philox.ts";

// Known-answer vectors of the authors' library: Random123, kat_vectors, "philox4x32 10".
test.each([
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    [0xffffffff, 0xffffffff],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
] as const)("philox gives the published words for counter %j and key %j", (counter, key, words) => {
  expect(philox(counter, key)).toEqual(words);
});

test("the number of a draw is in [0, 1), with 53 bits from two words", () => {
  // Counter and key 0: (0x6627e8d5 >>> 5) * 2^26 + (0xe169c58d >>> 6), over 2^53; the first word alone gives 0.399046...
  const expected = ((0x6627e8d5 >>> 5) * 2 ** 26 + (0xe169c58d >>> 6)) / 2 ** 53;
  expect(uniformAt(0, 0, 0)).toBe(expected);
  expect(expected).toBeCloseTo(0x6627e8d5 / 2 ** 32, 8);
  for (let i = 0; i < 1000; i++) {
    const uniform = uniformAt(7, i, i * 31);
    expect(uniform >= 0 && uniform < 1).toBe(true);
  }
});

test("seed, request and position each change the draw, beyond 32 bits too", () => {
  const places = [
    [1, 2, 3],
    [2, 2, 3],
    [1, 3, 3],
    [1, 2, 4],
    [2, 1, 3],
    [1 + 2 ** 32, 2, 3],
    [1, 2 + 2 ** 32, 3],
  ] as const;
  expect(new Set(places.map(([seed, request, position]) => uniformAt(seed, request, position))).size).toBe(places.length);
});
