import { describe, expect, test } from "vitest";
import { secondsInAddon } from "../../bench/lib/addon-time.ts";
import { geometricLengths } from "../../bench/lib/answer-lengths.ts";
import { secondsInCollections } from "../../bench/lib/collection-time.ts";
import { type Comparison, peerColumns } from "../../bench/lib/compare.ts";
import { type GenerationWorkload, ratesOf } from "../../bench/lib/generation-run.ts";
import { randomPrompts } from "../../bench/lib/prompts.ts";
import { tableOf } from "../../bench/lib/report.ts";
import { peakResidentBytes, residentBytes, resetPeak } from "../../bench/lib/resident-memory.ts";
import { median, medianRatio } from "../../bench/lib/statistics.ts";
import { binding } from "../../src/native/binding.ts";
import { segment } from "../../src/tensor/autograd.ts";
import { full } from "../../src/tensor/create.ts";
import { collectGarbage } from "../../src/tensor/system.ts";

describe("statistics", () => {
  test("the median is the middle value, or the mean of two", () => {
    expect([median([9, 1, 5]), median([1, 9, 3, 5])]).toEqual([5, 4]);
    expect(() => median([])).toThrow(RangeError);
  });

  test("a ratio is taken pair by pair", () => {
    // A machine that becomes 10 times as fast: pairs 2, 2 and 1, where the medians' ratio would be 20 / 10.
    expect(medianRatio([2, 20, 30], [1, 10, 30])).toBe(2);
    expect(medianRatio([2, 10, 30], [1, 10, 30])).toBe(1);
    expect(() => medianRatio([1], [])).toThrow(RangeError);
  });
});

describe("rates", () => {
  const shape = { batch: 4, promptLength: 8, newTokens: 11 };
  const workload: GenerationWorkload = { model: "m", dtype: "float32", threads: 1, ...shape, repeats: 2, timesAddon: false };

  test("decoding is the time of all tokens less that of the first", () => {
    const times = { firstSeconds: [0.5, 2], allSeconds: [2.5, 3], peakBytes: 0, javascriptShare: 0 };
    // 4 rows of 8 prompt tokens; 4 rows of 10 tokens after the first one.
    expect(ratesOf(workload, times)).toEqual({ prefill: [32 / 0.5, 32 / 2], decode: [40 / 2, 40 / 1] });
  });

  test("a peer's columns carry its name, and the row's ratio that of the first phase", () => {
    const peers: Comparison["peers"] = [{ name: "llama", rates: { prefill: [10, 40], decode: [1, 4] } }];
    const ours: Comparison = { prefill: [20, 40], decode: [3, 4], peakBytes: 0, javascriptShare: 0, peers };
    expect(peerColumns(ours, ["decode", "prefill"])).toEqual({
      llamaDecodeTokensPerSecond: 2.5, llamaRatio: 2, llamaPrefillTokensPerSecond: 25, llamaPrefillRatio: 1.5,
    });
    expect(Object.keys(peerColumns(ours, ["prefill"]))).toEqual(["llamaPrefillTokensPerSecond", "llamaRatio"]);
  });
});

describe("requests", () => {
  test("answers end with probability 1 / mean at every token, and at the limit", () => {
    const lengths = geometricLengths({ count: 20_000, mean: 8, max: 16, seed: 3 });
    const share = (isCounted: (length: number) => boolean): number => lengths.filter(isCounted).length / lengths.length;
    // 1/8 of one token, 7/64 of two, (7/8)^15 = 0.135 not over after 15; 5 standard errors: 5 * sqrt(0.135 * 0.865 / 20000) = 0.0121.
    expect(Math.abs(share((length) => length === 1) - 1 / 8)).toBeLessThan(0.0121);
    expect(Math.abs(share((length) => length === 2) - 7 / 64)).toBeLessThan(0.0121);
    expect(Math.abs(share((length) => length === 16) - (7 / 8) ** 15)).toBeLessThan(0.0121);
    expect(Math.max(...lengths)).toBe(16);
    expect(geometricLengths({ count: 20_000, mean: 8, max: 16, seed: 3 })).toEqual(lengths);
    expect(geometricLengths({ count: 20_000, mean: 8, max: 16, seed: 4 })).not.toEqual(lengths);
  });

  test("prompts differ, are tokens of the vocabulary and the same in every run", () => {
    const prompts = randomPrompts(3, 50, 61);
    expect(prompts.map((prompt) => prompt.length)).toEqual([50, 50, 50]);
    expect(prompts.flat().every((token) => token >= 10 && token < 61)).toBe(true);
    expect(new Set(prompts.map(String)).size).toBe(3);
    expect(randomPrompts(3, 50, 61)).toEqual(prompts);
  });
});

describe("measuring", () => {
  test("the peak of memory is that since the last reset", () => {
    const bytes = 64 * 2 ** 20;
    full([bytes / 4], 1).dispose();
    expect(peakResidentBytes() - residentBytes()).toBeGreaterThan(0.9 * bytes);
    resetPeak();
    expect(peakResidentBytes() - residentBytes()).toBeLessThan(0.1 * bytes);
  });

  test("time in the addon leaves out JavaScript's own, and the addon is as before afterwards", () => {
    const { callOp } = binding;
    const matrix = full([256, 256], 1);
    const busy = secondsInAddon(() => { for (let i = 0; i < 20; i++) matrix.matmul(matrix); });
    const idle = secondsInAddon(() => { for (let i = 0; i < 1e6; i++) Math.sqrt(i); });
    expect(busy.inAddon).toBeGreaterThan(0);
    expect(busy.inAddon).toBeLessThanOrEqual(busy.total);
    expect(idle.inAddon).toBe(0);
    expect(() => secondsInAddon(() => { throw new Error("mine"); })).toThrow("mine");
    expect(binding.callOp).toBe(callOp);
  });

  test("what the addon calls back is not its time", () => {
    const { total, inAddon } = secondsInAddon(() => {
      const [joined] = segment([full([1], 1).requiresGrad_()], [full([1], 2)], ([gradient]) => {
        const end = performance.now() + 20;
        while (performance.now() < end);
        return [gradient];
      });
      joined?.backward();
    });
    expect(inAddon).toBeGreaterThan(0);
    expect(total - inAddon).toBeGreaterThan(0.0199);
  });

  test("garbage collections are counted, and only those of the run", async () => {
    collectGarbage();
    const none = await secondsInCollections(async () => {});
    const some = await secondsInCollections(async () => collectGarbage());
    expect(none.collecting).toBe(0);
    expect(some.collecting).toBeGreaterThan(0);
    expect(some.collecting).toBeLessThanOrEqual(some.total);
  });
});

describe("tables", () => {
  test("a column of one row is there for all", () => {
    expect(cells(tableOf([{ work: "a" }, { work: "b", peakBytes: 1e6 }]))).toEqual([["work", "peak bytes"], ["a", ""], ["b", "1 MB"]]);
  });

  test("few rows lie on their side, many stand; units are written out", () => {
    const row = { tokens: 16_384, shareOfLimit: 0.5, peakBytes: 2_500_000, llamaRatio: 1.5 };
    expect(cells(tableOf([row]))).toEqual([
      ["tokens", "16384"], ["share of limit", "50.0%"], ["peak bytes", "2.5 MB"], ["llama ratio", "1.50x"],
    ]);
    expect(cells(tableOf(Array(4).fill(row)))).toEqual([
      ["tokens", "share of limit", "peak bytes", "llama ratio"], ...Array(4).fill(["16384", "50.0%", "2.5 MB", "1.50x"]),
    ]);
  });
});

function cells(table: string): string[][] {
  const lines = table.split("\n").filter((line) => line.startsWith("\u2502"));
  return lines.map((line) => line.split("\u2502").slice(1, -1).map((cell) => cell.trim()));
}
