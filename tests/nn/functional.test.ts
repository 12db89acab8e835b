import { expect, test } from "vitest";
import { embedding, indexCopy, linear } from "../../src/nn/functional.ts";
import { indices, tensor } from "../../src/tensor/create.ts";

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
