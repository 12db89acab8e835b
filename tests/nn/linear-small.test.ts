import { describe, expect, test } from "vitest";
import { linear, linearSmall } from "../../src/nn/functional.ts";
import { Generator, randn } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";

const random = (shape: number[], seed: number): Tensor => randn(shape, new Generator(seed)).to("bfloat16");

/** The product in plain numbers, of values that bfloat16 holds exactly. */
function product(x: Tensor, weight: Tensor, bias: Tensor | undefined): number[][] {
  const [a, b] = [x.toArray() as number[][], weight.toArray() as number[][]];
  const offsets = bias ? (bias.toArray() as number[]) : b.map(() => 0);
  return a.map((row) => b.map((column, j) => row.reduce((sum, value, k) => sum + value * (column[k] ?? 0), offsets[j] ?? 0)));
}

describe("linearSmall", () => {
  // Rows on both sides of the kernel's limit, widths with a short last piece, outputs that 3 does not divide.
  test.each([[1, 64, 9], [2, 33, 7], [3, 40, 50], [5, 1, 3], [7, 96, 2], [8, 576, 31], [9, 64, 10]])(
    "%d rows, width %d, %d outputs in bfloat16: the product, rounded once",
    (rows, width, outputs) => {
      const [x, weight, bias] = [random([rows, width], 1), random([outputs, width], 2), random([outputs], 3)];
      for (const offset of [undefined, bias]) {
        const y = linearSmall(x, weight, offset);
        expect([y.dtype, y.shape]).toEqual(["bfloat16", [rows, outputs]]);
        // Half a unit in the last of bfloat16's 8 bits, and the rounding of float32 sums.
        assertClose(y, product(x, weight, offset), { rtol: 2 ** -8, atol: 2e-4 });
      }
    },
  );

  test("rows that do not lie together, and a view of a larger weight", () => {
    const x = random([64, 6], 4).transpose(0, 1), weight = random([20, 64], 5).slice(0, 5, 12);
    assertClose(linearSmall(x, weight), product(x, weight, undefined), { rtol: 2 ** -8, atol: 2e-4 });
  });

  test("in float32 it is linear", () => {
    const x = random([3, 8], 6).to("float32"), weight = random([4, 8], 7).to("float32");
    expect(linearSmall(x, weight).toArray()).toEqual(linear(x, weight).toArray());
  });

  test("has no gradient, and says so instead of leaving it out", () => {
    const weight = random([4, 8], 8).requiresGrad_();
    expect(() => linearSmall(random([3, 8], 9), weight).sum().backward()).toThrow(/linear_small/);
  });
});
