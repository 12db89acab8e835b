import { afterEach, describe, expect, test } from "vitest";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { attendAt, type Expected, rotated } from "./attention-reference.ts";
import { describeKernels, remembered } from "./kernel-sets.ts";
import { expectWithin, floatTypes } from "./numbers.ts";
import { drawInputs, PagedCache, type Setting } from "./paged-attention.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

type Case = Omit<Setting, "dtype">;

const prompts = [1, 31, 33, 64, 300], steps = 0;

const cases: [string, Case][] = [
  ["9 heads of 16 on 3", { heads: 9, kvHeads: 3, headDim: 16, dims: 16, prompts, steps }],
  ["5 heads of 20 on 1, 12 elements rotated", { heads: 5, kvHeads: 1, headDim: 20, dims: 12, prompts, steps }],
  ["2 heads of 64, no positions", { heads: 2, kvHeads: 2, headDim: 64, prompts, steps }],
  ["2 heads of 128 on 1, softcap", { heads: 2, kvHeads: 1, headDim: 128, dims: 128, softcap: 2, prompts: [40, 70], steps }],
  ["4 heads of 32, window", { heads: 4, kvHeads: 4, headDim: 32, dims: 32, window: 40, prompts, steps }],
  ["everything together", { heads: 6, kvHeads: 2, headDim: 24, dims: 8, window: 100, softcap: 3, alibi: true, scale: 0.7, prompts, steps }],
];

/** Results of every token of every row. */
const drawn = remembered((setting: Setting) => {
  const inputs = drawInputs(setting);
  const expected = inputs.rows.map((row, r): Expected[] => {
    const tokens = rotated(setting, inputs, row);
    return Array.from({ length: setting.prompts[r] as number }, (_, position) => attendAt(setting, inputs, tokens, position));
  });
  return { inputs, expected };
});

type Ranges = { row: number; from: number; to: number }[];

/** Checks what `attendPrompts` gave for the ranges. */
function check(y: Tensor, ranges: Ranges, expected: Expected[][]): void {
  let at = 0;
  for (const { row, from, to } of ranges) {
    for (const { y: want, bound } of (expected[row] as Expected[]).slice(from, to)) {
      expectWithin(y.select(0, at), want, bound, `row ${row}, result ${at}`);
      at++;
    }
  }
  expect(y.shape[0]).toBe(at);
}

const whole = (setting: Setting): Ranges => setting.prompts.map((to, row) => ({ row, from: 0, to }));

describeKernels("attention of prompts over pages with stale contents", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each(cases)("%s", (_, sizes) => {
      const setting = { ...sizes, dtype }, { inputs, expected } = drawn(setting), ranges = whole(setting);
      const y = new PagedCache(setting, inputs).attendPrompts(ranges);
      expect(y.dtype).toBe(dtype);
      check(y, ranges, expected);
    });

    test("prompts that come in pieces see what came before", () => {
      const setting: Setting = { ...(cases[5] as [string, Case])[1], dtype }, { inputs, expected } = drawn(setting);
      const cache = new PagedCache(setting, inputs);
      for (const ranges of [
        [{ row: 4, from: 0, to: 261 }, { row: 1, from: 0, to: 15 }],
        [{ row: 1, from: 15, to: 16 }, { row: 4, from: 261, to: 300 }, { row: 2, from: 0, to: 33 }],
        [{ row: 1, from: 16, to: 31 }],
      ]) check(cache.attendPrompts(ranges), ranges, expected);
    });

    test("a token is bit for bit what it is when decoded, with any number of threads", () => {
      const setting: Setting = { dtype, heads: 6, kvHeads: 2, headDim: 24, dims: 8, window: 290, prompts: [0, 30, 31, 255, 299], steps: 1 };
      const inputs = drawInputs(setting), decoding = new PagedCache(setting, inputs);
      decoding.appendPrompts();
      const decoded = decoding.decode(0), ranges = setting.prompts.map((prompt, row) => ({ row, from: 0, to: prompt + 1 }));
      for (const count of [1, 2, 3]) {
        setNumThreads(count);
        const y = new PagedCache(setting, inputs).attendPrompts(ranges);
        let last = -1;
        for (const { row, to } of ranges) {
          last += to;
          expect(Buffer.from(y.slice(0, last, last + 1).bytes()).equals(decoded.slice(0, row, row + 1).bytes())).toBe(true);
        }
      }
    });
  });
});
