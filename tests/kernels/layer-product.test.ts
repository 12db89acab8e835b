import { expect, test } from "vitest";
import { linear } from "../../src/nn/functional.ts";
import { int8Product, layerProduct, type LayerProduct, type Norm, type ProductExtras, quantizeRows } from "../../src/nn/layer-product.ts";
import { ParameterBlock } from "../../src/nn/parameter-block.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { activate, plainNorm } from "../nn/plain-operators.ts";
import { describeKernels } from "./kernel-sets.ts";
import { expectSame, type FloatType, floatTypes, random } from "./numbers.ts";

const [rows, hidden, outputs] = [7, 24, 40];

/** A matrix with its bias and the vectors of a norm, all drawn. */
function layer(dtype: FloatType, hasBias: boolean): ParameterBlock {
  const bias = hasBias ? [{ name: "upBias", shape: [outputs] }] : [];
  const leaves = [
    { name: "up", shape: [outputs, hidden] }, ...bias,
    { name: "norm", shape: [hidden] }, { name: "normBias", shape: [hidden] },
  ];
  const block = new ParameterBlock("layer", leaves, dtype);
  block.flat.copy_(random([block.flat.size], 1, dtype, 0.3));
  return block;
}

const norm = (block: ParameterBlock, kind: Norm["kind"], hasBias: boolean): Norm =>
  ({ kind, weight: block.leaf("norm"), bias: hasBias ? block.leaf("normBias") : undefined, eps: 1e-5 });
const residual = (block: ParameterBlock): Tensor => random([rows, outputs], 3, block.flat.dtype as FloatType);

/** What the decoders of several families ask for. */
const extras: [string, boolean, (block: ParameterBlock) => ProductExtras][] = [
  ["nothing", false, () => ({})],
  ["a bias", true, () => ({})],
  ["rms norm", false, (block) => ({ norm: norm(block, "rms", false) })],
  ["layer norm and bias", true, (block) => ({ norm: norm(block, "layer", true) })],
  ["a residual", true, (block) => ({ residual: residual(block) })],
  ["a gate of silu", false, (block) => ({ norm: norm(block, "rms", false), activation: "silu", gated: true })],
  ["a gate of gelu", true, (block) => ({ norm: norm(block, "rms", false), activation: "gelu", gated: true })],
  ["gelu by tanh", true, (block) => ({ norm: norm(block, "layer", true), activation: "gelu-tanh" })],
  ["relu and a residual", true, (block) => ({ activation: "relu", residual: residual(block) })],
];

/** The same in separate operators of libtorch. */
const plainProduct: LayerProduct = (x, block, matrix, { norm: given, activation, gated = false, residual: added } = {}) => {
  const product = linear(given ? plainNorm(x, given) : x, block.leaf(matrix), block.find(`${matrix}Bias`));
  const [gate, up] = gated ? (product.split([outputs / 2, outputs / 2], 1) as [Tensor, Tensor]) : [product, undefined];
  const active = activation ? activate(gate, activation) : gate;
  const result = up ? active.mul(up) : active;
  return added ? added.add(result) : result;
};

describeKernels("layerProduct", () => {
  test.each(extras)("is what separate operators give with %s", (_, hasBias, extrasOf) => {
    for (const dtype of floatTypes) {
      const block = layer(dtype, hasBias), x = random([rows, hidden], 2, dtype), given = extrasOf(block);
      const expected = noGrad(() => plainProduct(x, block, "up", given)), y = layerProduct(x, block, "up", given);
      expect([y.dtype, y.shape]).toEqual([dtype, expected.shape]);
      expectSame(y, expected.data() as Float32Array, { units: 2, share: 0.05, atol: dtype === "float32" ? 3e-6 : 2e-3 });
    }
  });

  test.each(extras)("has the gradients of separate operators with %s", (name, hasBias, extrasOf) => {
    if (name === "relu and a residual") return; // no decoder trains that
    for (const dtype of floatTypes) {
      const gradients = [plainProduct, layerProduct].map((product) => {
        const block = layer(dtype, hasBias), x = random([rows, hidden], 2, dtype).requiresGrad_();
        block.enableGradients();
        const given = extrasOf(block);
        given.residual?.requiresGrad_();
        const y = product(x, block, "up", given);
        y.to("float32").mul(random(y.shape as number[], 4, "float32")).sum().backward();
        return [x.grad, block.gradient, given.residual?.grad].flatMap((gradient) => gradient?.to("float32").numbers() ?? []);
      });
      const [expected = [], found = []] = gradients;
      expect(found).toHaveLength(expected.length);
      // In bfloat16 both round at several places.
      const [relative, absolute] = dtype === "float32" ? [1e-5, 1e-5] : [2 ** -6, 0.03];
      for (const [i, value] of found.entries()) {
        const right = expected[i] ?? 0;
        expect(Math.abs(value - right)).toBeLessThan(relative * Math.abs(right) + absolute);
      }
    }
  });

  test("in training gives the bits that it gives without gradient", () => {
    for (const dtype of floatTypes) {
      const block = layer(dtype, true), x = random([rows, hidden], 2, dtype);
      const given: ProductExtras = { norm: norm(block, "rms", false), activation: "silu", gated: true };
      const plain = layerProduct(x, block, "up", given).numbers();
      block.enableGradients();
      expect(layerProduct(x, block, "up", given).numbers()).toEqual(plain);
    }
  });

  test("in int8 is the product with the rounded matrix, and has no gradient", () => {
    const block = layer("float32", true), x = random([rows, hidden], 2, "float32");
    const matrix = quantizeRows(block.leaf("up"));
    // Each row's largest element becomes 127 or -127, and no element is off by more than half a step.
    const values = matrix.values.toArray() as number[][], scales = matrix.scales.numbers();
    expect(values.map((row) => Math.max(...row.map(Math.abs)))).toEqual(values.map(() => 127));
    const weight = block.leaf("up").toArray() as number[][];
    for (const [o, row] of weight.entries()) {
      const scale = scales[o] ?? 0;
      for (const [i, value] of row.entries()) expect(Math.abs(value - (values[o]?.[i] ?? 0) * scale)).toBeLessThanOrEqual(scale * 0.5001);
    }
    const rounded = layer("float32", true);
    rounded.leaf("up").copy_(matrix.values.to("float32").mul(matrix.scales.unsqueeze(1)));
    const product = int8Product(() => matrix);
    expectSame(product(x, block, "up"), plainProduct(x, rounded, "up").data() as Float32Array, { units: 2, share: 0.05, atol: 3e-6 });
    block.enableGradients();
    expect(() => product(x, block, "up")).toThrow(/int8 weights has no gradient/);
  });

  test("a row of zeros stays zero in int8", () => {
    const { values, scales } = quantizeRows(random([1, 8], 1, "float32").mul(0));
    expect([values.numbers(), scales.numbers().every((scale) => scale > 0)]).toEqual([new Array(8).fill(0), true]);
  });
});
