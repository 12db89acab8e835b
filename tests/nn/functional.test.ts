import { expect, test } from "vitest";
import { type Activation, activate, indexCopy, layerNorm, linear, rmsNorm, roll } from "../../src/nn/functional.ts";
import { indices, tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

test("linear multiplies by the transposed weight and adds the bias", () => {
  // [1, 2] . [3, 4] = 11, [1, 2] . [5, 6] = 17
  expect(
    linear(
      tensor([[1, 2]]),
      tensor([
        [3, 4],
        [5, 6],
      ]),
    ).toArray(),
  ).toEqual([[11, 17]]);
  expect(
    linear(
      tensor([[1, 2]]),
      tensor([
        [3, 4],
        [5, 6],
      ]),
      tensor([10, 20]),
    ).toArray(),
  ).toEqual([[21, 37]]);
});

test("norms divide by the root of the mean square, or by the deviation around the mean", () => {
  // [1, 3]: mean square 5; mean 2, variance 1
  assertClose(rmsNorm(tensor([[1, 3]]), tensor([2, 1]), 4), [[(2 * 1) / 3, 3 / 3]]);
  assertClose(rmsNorm(tensor([[1, 3]]), undefined, 4), [[1 / 3, 1]]);
  assertClose(layerNorm(tensor([[1, 3]]), tensor([2, 1]), tensor([10, 20]), 3), [[10 - 2 / 2, 20 + 1 / 2]]);
  assertClose(layerNorm(tensor([[1, 3]]), undefined, undefined, 3), [[-0.5, 0.5]]);
});

test("norms of large bfloat16 rows are computed in float32", () => {
  // The squares' sum, 2 * 300^2 + 1, is no bfloat16; the result is 300 / sqrt(60000.33) = 1.2247 within one rounding.
  const x = tensor([[300, 300, 1]], { dtype: "bfloat16" });
  assertClose(rmsNorm(x, undefined, 0), [[1.224738, 1.224738, 0.0040825]], { rtol: 2 ** -8 });
});

test.each<[Activation, (x: number) => number]>([
  ["relu", (x) => Math.max(x, 0)],
  ["silu", (x) => x / (1 + Math.exp(-x))],
  ["gelu-tanh", (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))],
])("%s", (activation, formula) => {
  const xs = [-3, -0.5, 0, 0.7, 2];
  assertClose(activate(tensor(xs), activation), xs.map(formula), { atol: 1e-6 });
});

test("gelu is x times the normal distribution's probability below x", () => {
  // Phi(1) = 0.8413447, Phi(-2) = 0.0227501; its tanh form gives 0.8411920 at 1
  assertClose(activate(tensor([1, -2]), "gelu"), [0.8413447, -2 * 0.0227501], { rtol: 1e-5 });
});

test("roll and indexCopy move what they say", () => {
  expect(roll(tensor([[1, 2, 3, 4]]), 1).toArray()).toEqual([[4, 1, 2, 3]]);
  expect(indexCopy(tensor([[0], [0], [0]]), indices([2, 0]), tensor([[5], [6]])).toArray()).toEqual([[6], [0], [5]]);
});
