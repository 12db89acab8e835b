import { describe, expect, test } from "vitest";
import { tensor } from "../../src/tensor/create.ts";
import { tensorMemory } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";

const isFreed = (t: Tensor | undefined): boolean => {
  try {
    t?.numbers();
    return false;
  } catch (error) {
    if ((error as { code?: string }).code !== "E_ARGUMENT") throw error;
    return true;
  }
};

describe("tidy", () => {
  test("keeps the result and what was made outside, and frees the rest at once", () => {
    const outside = tensor([1]);
    let inside: Tensor | undefined;
    const result = tidy(() => {
      inside = outside.add(1);
      return inside.mul(2);
    });
    expect([result.toArray(), outside.toArray(), isFreed(inside)]).toEqual([[4], [1], true]);
  });

  test("keeps tensors in arrays, records, maps, and nested ones", () => {
    const made = tidy(() => ({
      list: [tensor([1]), tensor([2])],
      map: new Map([["a", tensor([3])]]),
      inner: { t: tensor([4]) },
      count: 5,
      none: null,
    }));
    expect([...made.list, made.map.get("a"), made.inner.t].map((t) => t?.toArray())).toEqual([[1], [2], [3], [4]]);
    expect(made.count).toBe(5);
  });

  test("nests: an inner result belongs to the outer scope", () => {
    let inner: Tensor | undefined;
    const outer = tidy(() => {
      inner = tidy(() => tensor([1]).add(1));
      expect(inner.toArray()).toEqual([2]);
      return inner.add(1);
    });
    expect([outer.toArray(), isFreed(inner)]).toEqual([[3], true]);
  });

  test("frees everything when the body throws, and leaves no scope open", () => {
    let inside: Tensor | undefined;
    expect(() =>
      tidy(() => {
        inside = tensor([1]);
        throw new RangeError("inside");
      }),
    ).toThrow(RangeError);
    const after = tensor([2]);
    tidy(() => 0);
    expect([isFreed(inside), after.toArray()]).toEqual([true, [2]]);
  });

  test("frees memory before the next collection", () => {
    const before = tensorMemory().liveBytes;
    const kept = tidy(() =>
      tensor(new Array(2 ** 16).fill(1))
        .add(1)
        .sum(),
    );
    expect(kept.item()).toBe(2 ** 17);
    expect(tensorMemory().liveBytes - before).toBeLessThan(2 ** 16);
  });

  test("refuses a function that returns a promise", async () => {
    const later = Promise.resolve(1);
    expect(() => tidy(() => later)).toThrow(
      expect.objectContaining({
        name: "TypeError",
        message: "tidy(): expected a synchronous function, got one that returns a promise; await outside of tidy()",
      }),
    );
    await later;
  });
});
