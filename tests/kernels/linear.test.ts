import { describe, expect, test } from "vitest";
import { quantizeRows } from "../../src/nn/layer-product.ts";
import { zeros } from "../../src/tensor/create.ts";
import { failure } from "../failure.ts";
import { describeKernels, remembered } from "./kernel-sets.ts";
import { expectSame, floatTypes, random } from "./numbers.ts";
import { activations, draw, multiply, norms, reference, type Wanted } from "./product.ts";

const drawn = remembered((wanted: Wanted) => {
  const product = draw(wanted);
  return { product, expected: reference(product) };
});

/** The kernel against float64. Every operand lies between NaNs (`draw`), so nothing beside it reaches a result. */
function check(wanted: Wanted, tolerance: Parameters<typeof expectSame>[2] = {}): void {
  const { product, expected } = drawn(wanted), y = multiply(product);
  expect([y.dtype, y.shape]).toEqual([wanted.dtype, [wanted.rows, wanted.outputs]]);
  expectSame(y, expected, { what: JSON.stringify(wanted), ...tolerance });
}

/** All combinations of one value of each list. */
function combinations<T extends object>(lists: { [K in keyof T]: readonly T[K][] }): T[] {
  return Object.entries(lists).reduce(
    (found, [key, values]) => found.flatMap((one) => (values as unknown[]).map((value) => ({ ...one, [key]: value }))), [{}],
  ) as T[];
}

describeKernels("the product of few rows", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    // Rows on both sides of the tiles of 4, 2 and 1; widths and outputs with every kind of last piece. 1600 is too wide for the outputs
    // of a group to stay in the first cache, and for 165 rows to stay in the second.
    test.each([1, 15, 16, 17, 31, 32, 33, 576, 1600])("width %d, any rows and outputs", (width) => {
      for (const rows of width > 1000 ? [1, 7, 165] : width > 100 ? [1, 2, 7, 33, 64, 65] : [1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33, 64, 65])
        for (const outputs of [1, 3, 15, 16, 17, 50]) check({ rows, width, outputs, dtype });
    });

    // From 65 rows on the norm is a pass of its own.
    test.each([[23, false], [65, false], [23, true], [65, true]])("%d rows, int8 %s: every combination of extras", (rows, int8) => {
      const surroundings = combinations<Partial<Wanted>>({
        norm: norms, normVectors: [0, 1, 2], activation: activations, gated: [false, true], bias: [false, true], residual: [false, true],
      }).filter(({ norm, normVectors = 0 }) => normVectors <= (norm === "none" ? 0 : norm === "rms" ? 1 : 2));
      expect(surroundings.length).toBe((1 + 2 + 3) * 5 * 2 * 2 * 2);
      for (const extras of surroundings) {
        // The tail of gelu is a small difference of large numbers, in libtorch's float32 as well.
        const share = extras.activation?.startsWith("gelu") ? 0.1 : 0.01;
        const tolerance = dtype === "float32" ? {} : { units: 2, atol: 1e-3, share };
        check({ rows, width: 33, outputs: 17, dtype, int8, seed: 7, ...extras }, tolerance);
      }
    });
  });

  test("rows of x that do not lie together", () => {
    const x = random([64, 6], 4, "bfloat16").transpose(0, 1), weight = random([5, 64], 5, "bfloat16");
    expectSame(multiply({ x, weight }), reference({ x, weight }), { atol: 1e-3 });
  });

  test("infinities and NaN of x stay in their row", () => {
    for (const dtype of floatTypes) {
      const { x, weight } = draw({ rows: 6, width: 40, outputs: 20, dtype });
      const clean = multiply({ x, weight }).toArray() as number[][];
      x.slice(0, 1, 2).slice(1, 39, 40).fill_(Number.NaN);
      x.slice(0, 4, 5).slice(1, 0, 1).fill_(Number.POSITIVE_INFINITY);
      const y = multiply({ x, weight }).toArray() as number[][];
      for (const row of [0, 2, 3, 5]) expect(y[row]).toEqual(clean[row]);
      expect(y[1]).toEqual(clean[1]?.map(() => Number.NaN));
      expect(y[4]?.map(Number.isFinite)).toEqual(clean[4]?.map(() => false));
    }
  });
});

describe("tschat::layer_product", () => {
  test("no rows and no outputs are results too", () => {
    expect(multiply({ x: zeros([0, 4]), weight: zeros([3, 4]) }).shape).toEqual([0, 3]);
    expect(multiply({ x: zeros([2, 4]), weight: zeros([0, 4]) }).shape).toEqual([2, 0]);
  });

  test("has no gradient in int8, and says so instead of leaving it out", () => {
    const x = random([3, 8], 9, "bfloat16").requiresGrad_();
    const { values, scales } = quantizeRows(random([4, 8], 8, "float32"));
    expect(() => multiply({ x, weight: values, scales })).toThrow(/int8 weights has no gradient/);
  });

  const x = random([2, 8], 1, "float32"), weight = random([4, 8], 2, "float32");
  test.each([
    ["widths that differ", { x, weight: zeros([4, 7]) }, "expected x [rows, in] and weight [out, in], got [2, 8] and [4, 7]"],
    ["one dimension", { x: zeros([8]), weight }, "expected x [rows, in] and weight [out, in], got [8] and [4, 8]"],
    ["rows without elements", { x: zeros([2, 0]), weight: zeros([4, 0]) }, "expected rows of at least one element, got [2, 0]"],
    ["a weight that does not lie together", { x, weight: zeros([8, 4]).transpose(0, 1) }, "expected a contiguous weight"],
    ["types that differ", { x, weight: weight.to("bfloat16") }, "expected a weight of Float, got BFloat16"],
    ["int8 without scales", { x, weight: weight.to("int8") }, "expected a weight of Float, got Char"],
    ["scales without int8", { x, weight, scales: zeros([4]) }, "expected a weight of Char, got Float"],
    ["scales of another type", { x, weight: weight.to("int8"), scales: zeros([4], "bfloat16") },
      "scales: expected a contiguous float32 tensor of 4"],
    ["float64", { x: x.to("float64"), weight: weight.to("float64") }, "expected float32 or bfloat16, got Double"],
    ["half a gate", { x, weight: zeros([3, 8]), gated: true }, "a gated product needs an even number of outputs, got 3"],
    ["a bias of another size", { x, weight, bias: zeros([3]) }, "bias: expected 4 contiguous elements of Float, got Float[3]"],
    ["a residual of another type", { x, weight, residual: zeros([2, 4], "bfloat16") },
      "residual: expected 8 contiguous elements of Float, got BFloat16[2, 4]"],
    ["norm weights that do not lie together", { x, weight, norm: "rms" as const, normWeight: zeros([8, 2]).select(1, 0) },
      "norm weight: expected 8 contiguous elements of Float, got Float[8]"],
    ["an unknown norm", { x, weight, norm: "other" as "rms" }, "norm: expected 0 (none), 1 (rms), 2 (layer) or 3 (rms-plus-one), got -1"],
    ["an unknown activation", { x, weight, activation: "other" as "relu" },
      "activation: expected 0 (none), 1 (silu), 2 (gelu), 3 (gelu-tanh) or 4 (relu), got -1"],
  ])("refuses %s", (_, product, message) => {
    const error = failure(() => multiply(product));
    expect(error).toMatchObject({ name: "NativeError", code: "E_NATIVE" });
    expect(error.message).toContain(message);
  });
});
