import { describe, expect, test } from "vitest";
import { referenceAttention } from "./attention-reference.ts";
import { describeKernels, remembered } from "./kernel-sets.ts";
import { expectWithin, floatTypes } from "./numbers.ts";
import { drawInputs, PagedCache, type Setting } from "./paged-attention.ts";

type Case = Omit<Setting, "dtype">;

/** Prompts around the borders of pages (32 tokens) and chunks (256). */
const prompts = [0, 1, 31, 32, 33, 255, 256, 257, 600], some = [3, 30, 290], steps = 3;

const cases: [string, Case][] = [
  ["one head of 8", { heads: 1, kvHeads: 1, headDim: 8, dims: 8, prompts, steps }],
  ["4 heads of 16, no positions", { heads: 4, kvHeads: 4, headDim: 16, prompts, steps }],
  ["9 heads of 64 on 3", { heads: 9, kvHeads: 3, headDim: 64, dims: 64, prompts, steps }],
  ["8 heads of 20 on 1", { heads: 8, kvHeads: 1, headDim: 20, dims: 20, prompts, steps }],
  ["7 heads of 80, 32 elements rotated", { heads: 7, kvHeads: 7, headDim: 80, dims: 32, prompts, steps }],
  ["7 heads of 64 on 1, 36 elements rotated", { heads: 7, kvHeads: 1, headDim: 64, dims: 36, prompts, steps }],
  ["12 heads of 96 on 2, 24 elements rotated", { heads: 12, kvHeads: 2, headDim: 96, dims: 24, prompts, steps }],
  ["10 heads of 128 on 2, softcap", { heads: 10, kvHeads: 2, headDim: 128, dims: 128, softcap: 2, prompts: some, steps }],
  ["8 heads of 256 on 1, large scores, softcap",
    { heads: 8, kvHeads: 1, headDim: 256, dims: 64, scale: 0.5, softcap: 20, prompts: some, steps }],
  ["4 heads of 64, large scores", { heads: 4, kvHeads: 4, headDim: 64, dims: 64, scale: 1, prompts: some, steps }],
  ["12 heads of 64 on 2, ALiBi", { heads: 12, kvHeads: 2, headDim: 64, alibi: true, prompts, steps }],
  ["8 heads of 80, ALiBi and window", { heads: 8, kvHeads: 8, headDim: 80, alibi: true, window: 32, prompts, steps }],
  ...[1, 5, 32, 100, 300].map((window): [string, Case] =>
    [`window of ${window}`, { heads: 3, kvHeads: 1, headDim: 32, dims: 32, window, prompts: [...prompts, 299, 400], steps }]),
  ["everything together", {
    heads: 10, kvHeads: 2, headDim: 20, dims: 12, window: 100, softcap: 3, alibi: true, scale: 0.7, prompts, steps,
  }],
  ["pages that rows share", { heads: 4, kvHeads: 2, headDim: 32, dims: 32, sharedPages: 2, prompts: [64, 65, 100, 300], steps: 34 }],
  ["from nothing over two pages", { heads: 3, kvHeads: 3, headDim: 24, dims: 24, prompts: [0, 7], steps: 70 }],
];

const drawn = remembered((setting: Setting) => {
  const inputs = drawInputs(setting);
  return { inputs, expected: referenceAttention(setting, inputs) };
});

describeKernels("attention over pages with stale contents", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each(cases)("%s: prompts, then token by token", (_, sizes) => {
      const setting = { ...sizes, dtype }, { inputs, expected } = drawn(setting);
      const cache = new PagedCache(setting, inputs);
      cache.appendPrompts();
      for (let step = 0; step < setting.steps; step++) {
        const y = cache.decode(step);
        expect([y.dtype, y.shape]).toEqual([dtype, [setting.prompts.length, setting.heads * setting.headDim]]);
        for (const [row, { y: want, bound }] of (expected[step] ?? []).entries())
          expectWithin(y.select(0, row), want, bound, `step ${step} after ${setting.prompts[row]}`);
      }
    });
  });
});
