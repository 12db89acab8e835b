import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import { describeKernels } from "./kernel-sets.ts";
import { type FloatType, floatTypes } from "./numbers.ts";
import { drawInputs, PagedCache, type Setting } from "./paged-attention.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

const settings: fc.Arbitrary<Setting> = fc.record({
  dtype: fc.constantFrom<FloatType>(...floatTypes),
  shape: fc.constantFrom([1, 1, 8, 8], [4, 4, 16, 0], [9, 3, 64, 64], [8, 1, 20, 12], [5, 1, 80, 32]),
  window: fc.constantFrom(0, 0, 7, 100, 300), softcap: fc.constantFrom(0, 3), alibi: fc.boolean(), steps: fc.constant(1),
  prompts: fc.array(fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 250, max: 600 })), { minLength: 1, maxLength: 6 }),
}).map(({ shape: [heads, kvHeads, headDim, dims], ...rest }) =>
  ({ heads, kvHeads, headDim, dims, ...rest }) as Setting);

/** A filled cache. */
function filled(setting: Setting): PagedCache {
  const cache = new PagedCache(setting, drawInputs(setting, 5));
  cache.appendPrompts();
  return cache;
}

describeKernels("attention over pages", () => {
  test("a row is bit for bit what it is alone, whatever the lengths of the others", () => {
    fc.assert(fc.property(settings, (setting) => {
      const cache = filled(setting), together = cache.decode(0);
      for (const row of setting.prompts.keys()) {
        const alone = cache.decode(0, [row]);
        if (!Buffer.from(together.slice(0, row, row + 1).bytes()).equals(alone.bytes())) throw new Error(`row ${row} differs`);
      }
    }), { numRuns: 20, seed: 1 });
  });

  test("NaN of a new token shows in its row, for each length, and in no other", () => {
    for (const dtype of floatTypes) {
      const setting: Setting = { dtype, heads: 5, kvHeads: 1, headDim: 20, dims: 20, prompts: [0, 5, 40, 300, 600], steps: 1 };
      const clean = filled(setting).decode(0).toArray() as number[][];
      for (const spoilt of [0, 2, 4]) {
        const cache = filled(setting);
        cache.inputs.rows[spoilt]?.slice(0, setting.prompts[spoilt] as number).fill_(Number.NaN);
        const y = cache.decode(0).toArray() as number[][];
        expect(y).toEqual(clean.map((row, i) => (i === spoilt ? row.map(() => Number.NaN) : row)));
      }
    }
  });

  test("the number of threads changes no bit of prompts and new tokens", () => {
    for (const dtype of floatTypes) {
      const setting: Setting = { dtype, heads: 9, kvHeads: 3, headDim: 64, dims: 64, prompts: [0, 31, 32, 255, 300, 600], steps: 2 };
      const run = (count: number) => {
        setNumThreads(count);
        const cache = filled(setting), results = [0, 1].map((step) => Buffer.from(cache.decode(step).bytes()));
        return [...results, Buffer.from(cache.keys.bytes()), Buffer.from(cache.values.bytes())];
      };
      const one = run(1);
      for (const count of [2, 3]) for (const [i, bytes] of run(count).entries()) expect(bytes.equals(one[i] as Buffer)).toBe(true);
    }
  });
});
