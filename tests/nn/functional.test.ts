import { expect, test } from "vitest";
import { embedding, indexCopy, linear } from "../../src/nn/functional.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { indices, tensor, zeros } from "../../src/tensor/create.ts";

test("linear multiplies by the transposed weight and adds the bias", () => {
  const x = tensor([[1, 2]]), weight = tensor([[3, 4], [5, 6]]);
  // [1, 2] . [3, 4] = 11, [1, 2] . [5, 6] = 17
  expect(linear(x, weight).toArray()).toEqual([[11, 17]]);
  expect(linear(x, weight, tensor([10, 20])).toArray()).toEqual([[21, 37]]);
});

test("embedding and indexCopy pick and replace the rows that are named", () => {
  expect(embedding(tensor([[1, 2], [3, 4], [5, 6]]), indices([2, 0])).toArray()).toEqual([[5, 6], [1, 2]]);
  expect(indexCopy(tensor([[0], [0], [0]]), indices([2, 0]), tensor([[5], [6]])).toArray()).toEqual([[6], [0], [5]]);
});

test.each(["float32", "bfloat16"] as const)("the gradient of an embedding in %s is summed in its buffer, in float32", (dtype) => {
  const table = zeros([3, 2], dtype).requiresGrad_();
  table.setGrad(tensor([[0, 0], [0, 0], [0.5, 0]]));
  // Row 1 a thousand times: 1000 * 1.0078125 and 1000 * 0.75, where bfloat16 would stay at 256; row 2 once, on top of 0.5.
  embedding(table, indices([...new Array<number>(1000).fill(1), 2])).mul(tensor([[1.0078125, 0.75]]).to(dtype)).sum().backward();
  expect(table.grad?.toArray()).toEqual([[0, 0], [1007.8125, 750], [1.5078125, 0.75]]);
});

test("an embedding that does not train, or not now, has no gradient", () => {
  const table = zeros([3, 2]);
  expect(embedding(table, indices([1])).requiresGrad).toBe(false);
  table.requiresGrad_();
  expect(noGrad(() => embedding(table, indices([1]))).requiresGrad).toBe(false);
});
