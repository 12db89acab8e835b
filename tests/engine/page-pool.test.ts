import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PagePool } from "../../src/engine/page-pool.ts";
import { failure } from "../failure.ts";

describe("PagePool", () => {
  test("hands out what was given back last, and new pages in order", () => {
    const pool = new PagePool(5);
    expect(pool.allocate(3)).toEqual([0, 1, 2]);
    pool.release([1]);
    pool.release([0]);
    expect(pool.allocate(3)).toEqual([0, 1, 3]);
    expect([pool.numUsed, pool.numFree]).toEqual([4, 1]);
  });

  test("keeps a shared page until its last reference is gone", () => {
    const pool = new PagePool(1);
    const pages = pool.allocate(1);
    pool.share(pages);
    pool.release(pages);
    expect(pool.numFree).toBe(0);
    pool.release(pages);
    expect(pool.numFree).toBe(1);
  });

  test("grows while pages are in use", () => {
    const pool = new PagePool(1);
    pool.allocate(1);
    pool.grow(3);
    expect(pool.allocate(2)).toEqual([1, 2]);
  });

  test("refuses what would corrupt it", () => {
    const pool = new PagePool(2);
    const message = (action: () => unknown) => failure(action).message;
    expect(message(() => pool.allocate(3))).toBe("internal: 3 pages were asked for, 2 are free");
    expect(message(() => pool.release([0]))).toBe("internal: page 0 is not in use");
    const [page = -1] = pool.allocate(1);
    pool.release([page]);
    expect(message(() => pool.share([page]))).toBe("internal: page 0 is not in use");
    expect(message(() => pool.grow(1))).toBe("internal: a pool of 2 pages cannot shrink to 1");
  });

  test("never hands out a page in use, whatever is allocated, shared and released in any order; in the end all are free", () => {
    const kind = fc.constantFrom("allocate", "share", "release");
    const action = fc.record({ kind, count: fc.integer({ min: 0, max: 6 }), pick: fc.nat() });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.array(action, { maxLength: 200 }), (numPages, actions) => {
        const pool = new PagePool(numPages);
        const held: number[][] = []; // each entry owns one reference to each of its pages
        for (const { kind, count, pick } of actions) {
          const chosen = held[pick % Math.max(1, held.length)];
          if (kind === "allocate" && count <= pool.numFree) {
            const pages = pool.allocate(count);
            const used = new Set(held.flat());
            expect(pages.every((page) => !used.has(page) && page >= 0 && page < numPages)).toBe(true);
            expect(new Set(pages).size).toBe(count);
            held.push(pages);
          } else if (kind === "share" && chosen) {
            pool.share(chosen);
            held.push([...chosen]);
          } else if (kind === "release" && chosen) {
            pool.release(chosen);
            held.splice(held.indexOf(chosen), 1);
          }
          expect(pool.numUsed).toBe(new Set(held.flat()).size);
        }
        for (const pages of held) pool.release(pages);
        expect(pool.numFree).toBe(numPages);
      }),
    );
  });
});
