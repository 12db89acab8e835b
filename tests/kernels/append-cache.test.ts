import { describe, expect, test } from "vitest";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { rotated } from "./attention-reference.ts";
import { describeKernels } from "./kernel-sets.ts";
import { expectSame, floatTypes, random } from "./numbers.ts";
import { drawInputs, PagedCache, pageTokens, type Setting } from "./paged-attention.ts";

const sizes = { heads: 4, kvHeads: 2, headDim: 20, dims: 12, steps: 1 }, width = (4 + 2 * 2) * 20;

const bytes = (cache: PagedCache) => [cache.keys, cache.values].map((pool) => Buffer.from(pool.bytes()));

/**
 * Where an element lies in a pool, as the comment at `Cache` in native/src/kernels/kernels.h says: keys [token / 16][D / P][16 tokens][P]
 * and values [token / P][D][P], with P = 2 in bfloat16 and D the head size in multiples of 16.
 */
function indexOf(kind: "keys" | "values", { dtype, kvHeads }: Setting, place: number, head: number, d: number): number {
  const [P, D] = [dtype === "bfloat16" ? 2 : 1, 32], page = Math.floor(place / pageTokens), t = place % pageTokens;
  const start = (page * kvHeads + head) * pageTokens * D;
  if (kind === "keys") return start + ((Math.floor(t / 16) * (D / P) + Math.floor(d / P)) * 16 + (t % 16)) * P + (d % P);
  return start + (Math.floor(t / P) * D + d) * P + (t % P);
}

describeKernels("tschat::append_cache", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    const setting: Setting = { ...sizes, dtype, prompts: [1, 45, 64, 7] };

    test("rotates queries and keys in place and leaves the values", () => {
      const inputs = drawInputs(setting), cache = new PagedCache(setting, inputs), row = inputs.rows[1] as Tensor;
      const projected = cache.append([{ row: 1, from: 0, to: 45 }]);
      const expected = rotated(setting, inputs, row.slice(0, 0, 45));
      expectSame(projected, expected, { atol: dtype === "bfloat16" ? 1e-3 : 1e-6 });
      const values = (x: Tensor) => x.slice(1, 6 * 20, width).contiguous().bytes();
      expect(values(projected)).toEqual(values(row.slice(0, 0, 45)));
    });

    test("writes the keys and values of its tokens, the partner of a last one, and nothing else", () => {
      const cache = new PagedCache(setting, drawInputs(setting)), before = [cache.keys, cache.values].map((pool) => pool.numbers());
      const ranges = setting.prompts.map((to, row) => ({ row, from: 0, to }));
      const projected = cache.append(ranges).numbers();
      const [keys, values] = before as [number[], number[]];
      let token = 0;
      for (const { row, to } of ranges) {
        for (let t = 0; t < to; t++, token++) {
          for (let head = 0; head < 2; head++) {
            for (let d = 0; d < 20; d++) {
              const place = cache.placeOf(row, t);
              keys[indexOf("keys", setting, place, head, d)] = projected[token * width + (4 + head) * 20 + d] as number;
              values[indexOf("values", setting, place, head, d)] = projected[token * width + (6 + head) * 20 + d] as number;
              // Sums take values in pairs: what lies beside a last one is 0.
              if (dtype === "bfloat16" && t === to - 1 && t % 2 === 0) values[indexOf("values", setting, place + 1, head, d)] = 0;
            }
          }
        }
      }
      expect(cache.keys.numbers()).toEqual(keys);
      expect(cache.values.numbers()).toEqual(values);
    });

    test("prompts that come in pieces leave the same cache as those that come at once", () => {
      const inputs = drawInputs(setting), whole = new PagedCache(setting, inputs), pieces = new PagedCache(setting, inputs);
      whole.appendPrompts();
      pieces.append([{ row: 0, from: 0, to: 1 }, { row: 1, from: 0, to: 15 }, { row: 2, from: 0, to: 33 }, { row: 3, from: 0, to: 4 }]);
      pieces.append([{ row: 3, from: 4, to: 7 }, { row: 1, from: 15, to: 32 }]);
      pieces.append([{ row: 2, from: 33, to: 64 }, { row: 1, from: 32, to: 45 }]);
      for (const [i, pool] of bytes(pieces).entries()) expect(pool.equals(bytes(whole)[i] as Buffer)).toBe(true);
    });

    test("decode_attention appends as append_cache does", () => {
      const inputs = drawInputs(setting), decoded = new PagedCache(setting, inputs), appended = new PagedCache(setting, inputs);
      for (const cache of [decoded, appended]) cache.appendPrompts();
      decoded.decode(0);
      appended.append(setting.prompts.map((prompt, row) => ({ row, from: prompt, to: prompt + 1 })));
      for (const [i, pool] of bytes(decoded).entries()) expect(pool.equals(bytes(appended)[i] as Buffer)).toBe(true);
    });

    test("no tokens change nothing", () => {
      const inputs = { ...drawInputs(setting), rows: setting.prompts.map(() => random([0, width], 1, dtype)) };
      const cache = new PagedCache(setting, inputs), before = bytes(cache);
      cache.append([{ row: 0, from: 0, to: 0 }]);
      for (const [i, pool] of bytes(cache).entries()) expect(pool.equals(before[i] as Buffer)).toBe(true);
    });
  });
});
