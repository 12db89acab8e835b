import { expect, test } from "vitest";
import { ParameterBlock } from "../../src/nn/parameter-block.ts";
import { clipGradients, gradientNorm } from "../../src/optim/gradient-norm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

/** A block of one matrix whose gradient is `values`. */
function blockWith(values: number[][]): ParameterBlock {
  const block = new ParameterBlock("test", [{ name: "weight", shape: [values.length, values[0]?.length ?? 0] }], "float32");
  block.enableGradients();
  noGrad(() => block.viewOf(block.gradient ?? block.flat, "weight").copy_(tensor(values)));
  return block;
}
const gradientOf = (block: ParameterBlock) => block.viewOf(block.gradient ?? block.flat, "weight");

test("the norm is that of all blocks together", () => {
  // sqrt(1 + 4 + 4 + 16 + 0 + 144) = 13
  assertClose(gradientNorm([blockWith([[1, -2], [2, -4]]), blockWith([[0, 12]])]), 13);
});

test("the norm of a large gradient is right to 5 digits", () => {
  // 6 million times 0.1 and one 1000: sqrt(6e6 * 0.01 + 1e6); a single sum in float32 is 5e-3 short
  const block = blockWith([[1000]]);
  const large = new ParameterBlock("large", [{ name: "weight", shape: [6_000_000] }], "float32");
  large.enableGradients();
  noGrad(() => large.gradient?.slice(0, 0, 6_000_000).fill_(0.1));
  assertClose(gradientNorm([block, large]), Math.sqrt(6e4 + 1e6), { rtol: 2e-5 });
  assertClose(gradientNorm([large]), Math.sqrt(6e4), { rtol: 2e-5 });
});

test("a gradient that is too long is scaled down as a whole, and its norm before is returned", () => {
  const blocks = [blockWith([[3, 0]]), blockWith([[-4]])]; // norm 5
  assertClose(clipGradients(blocks, 1), 5);
  assertClose(blocks.map(gradientOf), [[[0.6, 0]], [[-0.8]]]);
});

test.each([5, 6, Infinity])("a gradient of norm 5 is left alone by a limit of %d", (limit) => {
  const block = blockWith([[3, 4]]);
  assertClose(clipGradients([block], limit), 5);
  expect(gradientOf(block).toArray()).toEqual([[3, 4]]);
});

test("a gradient that is not a number shows in the norm and is not scaled", () => {
  const block = blockWith([[3, Number.NaN]]);
  expect(clipGradients([block], 1)).toBeNaN();
  expect(gradientOf(block).toArray()).toEqual([[3, Number.NaN]]);
});
