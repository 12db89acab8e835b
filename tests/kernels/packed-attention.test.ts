import { afterEach, describe, expect, test } from "vitest";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import { describeKernels } from "./kernel-sets.ts";
import { floatTypes } from "./numbers.ts";
import { attend, attendPlainly, type Drawn, drawPacked, gradientOf, type Packed, slopeOf } from "./packed-attention.ts";
import { PagedCache } from "./paged-attention.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

/** Lengths around the borders of pages (32 tokens) and chunks (256). */
const lengths = [1, 31, 300, 32, 33, 256, 1, 257];
const cases: [string, Omit<Packed, "dtype">][] = [
  ["9 heads of 16 on 3", { heads: 9, kvHeads: 3, headDim: 16, dims: 16, lengths }],
  ["5 heads of 20 on 1, 12 elements rotated", { heads: 5, kvHeads: 1, headDim: 20, dims: 12, lengths }],
  ["4 heads of 3 on 2, 2 elements rotated, tables scaled", { heads: 4, kvHeads: 2, headDim: 3, dims: 2, factor: 1.3, lengths }],
  ["2 heads of 80, 34 elements rotated", { heads: 2, kvHeads: 2, headDim: 80, dims: 34, lengths }],
  ["2 heads of 64, no positions", { heads: 2, kvHeads: 2, headDim: 64, lengths }],
];

const wholePrompts = ({ setting }: Drawn) => setting.prompts.map((to, row) => ({ row, from: 0, to }));

describeKernels("packed attention", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each(cases)("has the bits of prompts and of new tokens in the cache: %s", (_, sizes) => {
      const drawn = drawPacked({ ...sizes, dtype }), { setting, inputs, offsets } = drawn;
      const y = attend(drawn, drawn.projected);
      expect(new PagedCache(setting, inputs).attendPrompts(wholePrompts(drawn)).bytes()).toEqual(y.bytes());
      // The last token of each sequence, decoded after those before it.
      const stepped = { ...setting, prompts: setting.prompts.map((length) => length - 1), steps: 1 };
      const cache = new PagedCache(stepped, inputs);
      cache.appendPrompts();
      const decoded = cache.decode(0);
      for (const row of inputs.rows.keys()) {
        const end = offsets[row + 1] as number;
        expect(decoded.slice(0, row, row + 1).bytes()).toEqual(y.slice(0, end - 1, end).bytes());
      }
    });

    test.each(cases)("of a sequence, and its gradient, do not depend on the others: %s", (_, sizes) => {
      const drawn = drawPacked({ ...sizes, dtype }), y = attend(drawn, drawn.projected), gradient = gradientOf(attend, drawn);
      for (const [row, projected] of drawn.inputs.rows.entries()) {
        const [from, to] = [drawn.offsets[row] as number, drawn.offsets[row + 1] as number];
        const alone = { ...drawn, offsets: [0, to - from], projected };
        expect(attend(alone, projected).bytes()).toEqual(y.slice(0, from, to).bytes());
        // With the slopes that its tokens have in the batch.
        const leaf = projected.detach().requiresGrad_();
        attend(alone, leaf).backward(slopeOf(drawn).slice(0, from, to));
        expect(leaf.grad?.bytes()).toEqual(gradient.slice(0, from, to).bytes());
      }
    });

    test.each(cases)("has libtorch's gradient: %s", (_, sizes) => {
      const drawn = drawPacked({ ...sizes, dtype }), found = gradientOf(attend, drawn).to("float64");
      const expected = gradientOf(attendPlainly, drawn, drawn.projected.to("float64")), wrong = found.sub(expected);
      const relative = (wrong.mul(wrong).sum().item() / expected.mul(expected).sum().item()) ** 0.5;
      expect(relative).toBeLessThan(dtype === "float32" ? 3e-6 : 0.012);
    });

    test("has the same bits with any number of threads, result and gradient", () => {
      const drawn = drawPacked({ ...(cases[1] as (typeof cases)[number])[1], dtype });
      const run = (count: number) => {
        setNumThreads(count);
        return [attend(drawn, drawn.projected).bytes(), gradientOf(attend, drawn).bytes()];
      };
      const one = run(1);
      for (const count of [2, 3]) expect(run(count)).toEqual(one);
    });
  });
});
