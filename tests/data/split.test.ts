import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shuffleIndices } from "../../src/data/shuffle.ts";
import { splitBounds, splitForStep } from "../../src/data/split.ts";
import { expectConfigError } from "./expect-config-error.ts";

describe("splitBounds", () => {
  // From DeepSpeed-Chat's own function.
  test.each([
    [2312, "2,4,4", [0, 462, 1387, 2312]],
    [101, "6,2,2", [0, 61, 81, 101]],
    [7, "1,1,1", [0, 3, 5, 7]],
    [76256, "2,4,4", [0, 15252, 45754, 76256]],
    [100, "10,0,0", [0, 100, 100, 100]],
    [5, "5,5,0", [0, 3, 5, 5]],
    [15, "1,1,0", [0, 7, 15, 15]],
    [10, "2,4,4", [0, 2, 6, 10]],
    [11, "2,4,4", [0, 3, 7, 11]],
    [13, "2,4,4", [0, 3, 8, 13]],
  ])("divides %i by %s as DeepSpeed-Chat does", (size, spec, bounds) => {
    expect(splitBounds(size, spec)).toEqual(bounds);
  });

  test("takes any number of shares, with blanks", () => {
    expect(splitBounds(20, " 9 , 1")).toEqual([0, 18, 20]);
    expect(splitBounds(8, "0.25,0.25,0.5")).toEqual([0, 2, 4, 8]);
  });

  test("gives 0 for a bound that the original makes negative", () => {
    // Shares of 5 are 0, 1.5 and 3.5, rounded 0, 2 and 4: bounds 0, 0, 2, 6, one too many, so 0, -1, 1, 5.
    expect(splitBounds(5, "0,3,7")).toEqual([0, 0, 1, 5]);
  });

  test("rises from 0 to the size, each part within two of its share", () => {
    const share = fc.integer({ min: 0, max: 9 });
    const shares = fc.tuple(share, share, share).filter((list) => list.some((value) => value > 0));
    fc.assert(fc.property(fc.integer({ min: 0, max: 5000 }), shares, (size, list) => {
      const bounds = splitBounds(size, list.join(","));
      const total = list.reduce((sum, value) => sum + value, 0);
      expect(bounds[0]).toBe(0);
      expect(bounds.at(-1)).toBe(size);
      list.forEach((value, i) => {
        const part = (bounds[i + 1] ?? NaN) - (bounds[i] ?? NaN);
        expect(part).toBeGreaterThanOrEqual(0);
        expect(Math.abs(part - (value / total) * size)).toBeLessThan(2);
      });
    }));
  });

  test.each(["", "2,x,4", "2,,4", "1,-1,1", "0,0,0", "1,Infinity"])("refuses %j", async (spec) => {
    await expectConfigError(
      () => splitBounds(10, spec),
      /^split ".*": expected numbers of at least 0, not all 0, between commas; write for example/,
    );
  });
});

describe("splitForStep", () => {
  test("gives each step its part of the shuffled whole", () => {
    // The shuffle 7 2 | 9 1 0 8 | 4 5 6 3 cut at 2 and 6.
    expect(splitForStep(10, "2,4,4", 1234, "sft")).toEqual([7, 2]);
    expect(splitForStep(10, "2,4,4", 1234, "reward")).toEqual([9, 1, 0, 8]);
    expect(splitForStep(10, "2,4,4", 1234, "dpo")).toEqual([9, 1, 0, 8]);
    expect(splitForStep(10, "2,4,4", 1234, "ppo")).toEqual([4, 5, 6, 3]);
  });

  test("divides every record among the steps", () => {
    fc.assert(fc.property(fc.integer({ min: 0, max: 400 }), fc.integer({ min: 0, max: 99 }), (size, seed) => {
      const parts = (["sft", "reward", "ppo"] as const).flatMap((step) => splitForStep(size, "1,2,3", seed, step));
      expect(parts).toEqual(Array.from(shuffleIndices(seed, size)));
    }));
  });

  test("wants three shares", async () => {
    await expectConfigError(
      () => splitForStep(10, "9,1", 1, "sft"),
      /^split "9,1": expected three shares \(SFT, reward model, PPO\), found 2; /,
    );
  });
});
