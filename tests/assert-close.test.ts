import { describe, expect, test } from "vitest";
import { assertClose } from "./assert-close.ts";

describe("assertClose", () => {
  test("compares numbers, nested arrays, typed arrays and what has toArray()", () => {
    assertClose(1 + 1e-6, 1);
    assertClose([[1, 2], [3]], [[1, 2.00001], [3]]);
    assertClose(new BigInt64Array([1n, 2n]), [1, 2]);
    assertClose({ toArray: () => [true, false] }, [1, 0]);
    assertClose(Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY);
  });

  test("fails beyond the tolerance, on NaN, and on another shape", () => {
    expect(() => assertClose(1.001, 1)).toThrow("1.001 is not close to 1");
    expect(() => assertClose([0, [1]], [0, [1.1]])).toThrow("[1][0]: 1 is not close to 1.1");
    expect(() => assertClose(Number.NaN, Number.NaN)).toThrow("not close");
    expect(() => assertClose([1, 2], [1])).toThrow("2 elements, expected 1");
    expect(() => assertClose([1], 1)).toThrow("an array beside a number");
  });

  test("refuses a tolerance that could not fail", () => {
    expect(() => assertClose(1, 1, { rtol: 1e6 })).toThrow(RangeError);
    expect(() => assertClose(1, 1, { atol: Number.NaN })).toThrow(RangeError);
  });
});
