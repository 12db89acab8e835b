import { expect, test } from "vitest";
import { multiply, normalize } from "../../src/nn/layer-product.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

test("norms divide by the root of the mean square, or by the deviation around the mean", () => {
  // [1, 3]: mean square 5; mean 2, variance 1
  const x = tensor([[1, 3]]), weight = tensor([2, 1]), bias = tensor([10, 20]);
  assertClose(normalize(x, { kind: "rms", weight, bias: undefined, eps: 4 }), [[(2 * 1) / 3, 3 / 3]]);
  assertClose(normalize(x, { kind: "rms", weight: undefined, bias: undefined, eps: 4 }), [[1 / 3, 1]]);
  assertClose(normalize(x, { kind: "layer", weight, bias, eps: 3 }), [[10 - 2 / 2, 20 + 1 / 2]]);
  assertClose(normalize(x, { kind: "layer", weight: undefined, bias: undefined, eps: 3 }), [[-0.5, 0.5]]);
});

test("norms of large bfloat16 rows are computed in float32", () => {
  // The squares' sum, 2 * 300^2 + 1, is no bfloat16; the result is 300 / sqrt(60000.33) = 1.2247 within one rounding.
  const x = tensor([[300, 300, 1]], { dtype: "bfloat16" });
  const y = normalize(x, { kind: "rms", weight: undefined, bias: undefined, eps: 0 });
  assertClose(y, [[1.224738, 1.224738, 0.0040825]], { rtol: 2 ** -8 });
});

test("multiply takes the transposed weight, with gradient", () => {
  const x = tensor([[1, 2]]).requiresGrad_(), weight = tensor([[3, 4], [5, 6]]).requiresGrad_();
  const y = multiply(x, weight);
  expect(y.toArray()).toEqual([[11, 17]]); // [1, 2] . [3, 4], [1, 2] . [5, 6]
  y.mul(tensor([[1, 10]])).sum().backward();
  expect([x.grad?.toArray(), weight.grad?.toArray()]).toEqual([[[53, 64]], [[1, 2], [10, 20]]]); // 3 + 50, 4 + 60
});
