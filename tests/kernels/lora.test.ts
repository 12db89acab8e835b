import { expect, test } from "vitest";
import { linear } from "../../src/nn/functional.ts";
import { layerProduct, type ProductExtras } from "../../src/nn/layer-product.ts";
import { type AdaptedLinear, BlockLora } from "../../src/nn/lora.ts";
import { ParameterBlock } from "../../src/nn/parameter-block.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { cat, Generator } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { activate, plainNorm } from "../nn/plain-operators.ts";
import { describeKernels } from "./kernel-sets.ts";
import { type FloatType, floatTypes, random } from "./numbers.ts";

const [tokens, width, outputs, rank, scale] = [70, 24, 40, 3, 1.5];
const linears = (...rows: [row: number, rows: number][]): AdaptedLinear[] =>
  rows.map(([row, count], i) => ({ module: `linear ${i}`, matrix: "up", row, rows: count, width }));

/** A matrix of 40 rows with a norm in front, some of whose rows have adapters. */
function adapted(dtype: FloatType, parts: readonly AdaptedLinear[]): { block: ParameterBlock; lora: BlockLora } {
  const leaves = [{ name: "up", shape: [outputs, width] }, { name: "upBias", shape: [outputs] }, { name: "norm", shape: [width] }];
  const block = new ParameterBlock("layer", leaves, dtype);
  block.flat.copy_(random([block.flat.size], 1, dtype, 0.3));
  const lora = new BlockLora(block, parts, { rank, scale, generator: new Generator(5) });
  block.lora = lora;
  noGrad(() => lora.parameters.flat.copy_(random([lora.parameters.flat.size], 6, "float32", 0.3)));
  lora.parameters.enableGradients();
  lora.merge();
  return { block, lora };
}

/** norm(x) (W + scale B A)^T in separate operators of libtorch, in float32, with everything that may stand around it. */
function plain(x: Tensor, base: Tensor, block: ParameterBlock, lora: BlockLora, extras: ProductExtras): Tensor {
  const wide = (tensor: Tensor | undefined) => tensor?.to("float32");
  const pieces: Tensor[] = [];
  let end = 0;
  for (const { module, row, rows } of lora.linears) {
    if (row > end) pieces.push(base.slice(0, end, row).to("float32"));
    const { a, b } = lora.factorsOf(module);
    pieces.push(base.slice(0, row, row + rows).to("float32").add(b.matmul(a).mul(scale)));
    end = row + rows;
  }
  if (end < outputs) pieces.push(base.slice(0, end).to("float32"));
  const { norm, activation, gated = false, residual } = extras;
  const normed = norm ? plainNorm(x.to("float32"), { ...norm, weight: wide(norm.weight) }) : x.to("float32");
  const product = linear(normed, cat(pieces), wide(block.find("upBias")));
  const [gate, up] = gated ? (product.split([outputs / 2, outputs / 2], 1) as [Tensor, Tensor]) : [product, undefined];
  const active = activation ? activate(gate, activation) : gate;
  const result = up ? active.mul(up) : active;
  return residual ? residual.to("float32").add(result) : result;
}

const cases: [string, AdaptedLinear[], (block: ParameterBlock, dtype: FloatType) => ProductExtras][] = [
  ["all rows", linears([0, outputs]), () => ({})],
  ["three linears in one matrix, with a norm", linears([0, 20], [20, 10], [30, 10]),
    (block) => ({ norm: { kind: "rms", weight: block.leaf("norm"), bias: undefined, eps: 1e-5 } })],
  ["the first and the last of three", linears([0, 20], [30, 10]), () => ({})],
  ["the middle one", linears([20, 10]), (_, dtype) => ({ residual: random([tokens, outputs], 3, dtype) })],
  ["the gate's half of a gated product", linears([0, 20]), () => ({ activation: "silu", gated: true })],
  ["both halves", linears([0, 20], [20, 20]), () => ({ activation: "gelu", gated: true })],
  ["an activation", linears([0, outputs]), () => ({ activation: "relu" })],
];

describeKernels("layerProduct with adapters", () => {
  test.each(cases)("gives what W + scale B A gives, and its gradients of A, B and x: %s", (_, parts, extrasOf) => {
    for (const dtype of floatTypes) {
      const { block, lora } = adapted(dtype, parts), base = lora.baseOf("up"), weights = random([tokens, outputs], 4, "float32");
      const [found = [], expected = []] = [layerProduct, plain].map((product) => {
        lora.parameters.gradient?.zero_();
        const x = random([tokens, width], 2, dtype).requiresGrad_(), extras = extrasOf(block, dtype);
        const y = product === plain ? plain(x, base, block, lora, extras) : layerProduct(x, block, "up", extras);
        y.to("float32").mul(weights.slice(1, 0, y.shape[1])).sum().backward();
        return [y, x.grad, lora.parameters.gradient].map((tensor) => tensor?.to("float32").numbers() ?? []);
      });
      for (const [i, name] of ["y", "dx", "dA and dB"].entries()) {
        const right = expected[i] ?? [], largest = Math.max(...right.map(Math.abs));
        expect(largest, name).toBeGreaterThan(0);
        const share = (values: readonly number[] = []) => values.map((value) => value / largest);
        // In bfloat16 W', y and the products going backward are rounded to 8 bits; sums of 70 tokens and 24 columns.
        assertClose(share(found[i]), share(right), dtype === "float32" ? { rtol: 1e-5, atol: 1e-6 } : { rtol: 2 ** -6, atol: 0.02 });
      }
    }
  });

  test("makes no gradient of the matrix, its bias and the norm", () => {
    const { block } = adapted("float32", linears([0, outputs])), x = random([tokens, width], 2, "float32");
    layerProduct(x, block, "up").sum().backward();
    expect([block.leaf("up").grad, block.leaf("upBias").grad, block.leaf("norm").grad]).toEqual([undefined, undefined, undefined]);
  });

  test("gives the same bits with and without gradient", () => {
    for (const dtype of floatTypes) {
      const { block } = adapted(dtype, linears([0, 20], [30, 10])), x = random([tokens, width], 2, dtype);
      expect(noGrad(() => layerProduct(x, block, "up")).numbers()).toEqual(layerProduct(x, block, "up").numbers());
    }
  });
});
