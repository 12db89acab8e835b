import { describe, expect, test } from "vitest";
import { ParameterBlock } from "../../src/nn/parameter-block.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { full, tensor } from "../../src/tensor/create.ts";

const leaves = [
  { name: "matrix", shape: [3, 5] },
  { name: "bias", shape: [3] },
  { name: "wide", shape: [2, 40] },
  { name: "norm", shape: [33] },
];

/** Index in the flat buffer of a leaf's first element: found by marking the leaf. */
function startOf(block: ParameterBlock, name: string): number {
  noGrad(() => block.flat.zero_());
  noGrad(() => block.leaf(name).fill_(1));
  const start = block.flat.numbers().indexOf(1);
  noGrad(() => block.flat.zero_());
  return start;
}

test.each(["float32", "bfloat16"] as const)("in %s, matrices come first, and every leaf starts at a multiple of 64 bytes", (dtype) => {
  const block = new ParameterBlock("layer", leaves, dtype);
  // In steps of 32 elements: matrix 15 -> 32, wide 80 -> 96; bias 3 -> 32, norm 33 -> 64.
  expect(["matrix", "wide", "bias", "norm"].map((name) => startOf(block, name))).toEqual([0, 32, 128, 160]);
  expect(block.decayEnd).toBe(128);
  expect(block.flat.shape).toEqual([224]);
  expect(block.flat.dtype).toBe(dtype);
});

test("leaves are views: writing one writes the buffer, nothing else, and the other way round", () => {
  const block = new ParameterBlock("layer", leaves, "float32");
  noGrad(() => {
    for (const { name } of leaves) block.leaf(name).fill_(1);
  });
  expect(block.flat.sum().item()).toBe(15 + 3 + 80 + 33); // the padding stays zero
  expect(block.numParameters).toBe(15 + 3 + 80 + 33);
  noGrad(() => block.flat.mul_(3));
  expect(block.leaf("norm").sum().item()).toBe(99);
});

describe("training", () => {
  test("accumulates into one flat float32 gradient, whose padding stays zero", () => {
    const block = new ParameterBlock("layer", leaves, "bfloat16");
    expect(block.gradient).toBeUndefined();
    block.enableGradients();
    for (let time = 0; time < 2; time++) block.leaf("matrix").mul(2).sum().add(block.leaf("norm").sum()).backward();
    const gradient = block.gradient;
    expect(gradient?.dtype).toBe("float32");
    // Twice: 15 entries of 2 and 33 of 1; bias and wide got nothing.
    expect(gradient?.sum().item()).toBe(2 * (15 * 2 + 33));
    expect(gradient && block.viewOf(gradient, "matrix").toArray()).toEqual(tensor(new Array<number[]>(3).fill([4, 4, 4, 4, 4])).toArray());
    expect(gradient && block.viewOf(gradient, "wide").abs().max().item()).toBe(0);
  });

  test("adds small gradients exactly where bfloat16 would lose them", () => {
    const block = new ParameterBlock("layer", [{ name: "matrix", shape: [1, 1] }], "bfloat16");
    block.enableGradients();
    // 256 + 1 is no bfloat16: 8 bits of precision.
    for (const slope of [256, 1, 1]) block.leaf("matrix").backward(full([1, 1], slope, "bfloat16"));
    expect(block.gradient?.numbers()[0]).toBe(258);
  });

  test("ends with freeze, and enabling it twice keeps what was added up", () => {
    const block = new ParameterBlock("layer", leaves, "float32");
    block.enableGradients();
    block.leaf("bias").sum().backward();
    block.enableGradients();
    expect(block.gradient?.sum().item()).toBe(3);
    block.freeze();
    expect(block.gradient).toBeUndefined();
    expect(block.leaf("bias").requiresGrad).toBe(false);
    expect(block.leaf("bias").grad).toBeUndefined();
  });
});

test("an unknown leaf is an error of ours; a leaf that a model may lack is asked for with find", () => {
  const block = new ParameterBlock("layer 3", leaves, "float32");
  expect(() => block.leaf("query")).toThrow('internal: block "layer 3" has no leaf "query"');
  expect(() => block.viewOf(block.flat, "query")).toThrow('internal: block "layer 3" has no leaf "query"');
  expect(block.find("query")).toBeUndefined();
  expect(block.find("wide")?.shape).toEqual([2, 40]);
});
