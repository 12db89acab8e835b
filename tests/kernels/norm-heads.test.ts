import { describe, expect, test } from "vitest";
import { normalizeHeads } from "../../src/nn/attention.ts";
import { type NormKind, normalize } from "../../src/nn/layer-product.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { cat, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { failure } from "../failure.ts";
import { plainNorm } from "../nn/plain-operators.ts";
import { describeKernels } from "./kernel-sets.ts";
import { expectSame, floatTypes, random } from "./numbers.ts";

const eps = 1e-5;
const heads = { numHeads: 4, numKvHeads: 2 };

/** x normalised, weight + 1 instead of the weight where Gemma wants it, by libtorch's operators. */
function plain(x: Tensor, kind: NormKind, weight: Tensor): Tensor {
  const own = kind === "rms-plus-one" ? { kind: "rms" as const, weight: weight.add(1) } : { kind, weight };
  return plainNorm(x, { ...own, bias: undefined, eps });
}

/** Head by head: the weights of a head are those of all, or its own. */
function plainHeads(projected: Tensor, kind: NormKind, [query, key]: readonly [Tensor, Tensor], headDim: number): Tensor {
  const { numHeads, numKvHeads } = heads;
  return cat(Array.from({ length: numHeads + 2 * numKvHeads }, (_, h) => {
    const x = projected.slice(1, h * headDim, (h + 1) * headDim);
    if (h >= numHeads + numKvHeads) return x;
    const [weight, first] = h < numHeads ? [query, h] : [key, h - numHeads];
    const own = weight.shape[0] === headDim ? weight : weight.slice(0, first * headDim, (first + 1) * headDim);
    return plain(x, kind, own);
  }), 1);
}

describeKernels("norms of heads", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each<[NormKind, number, "shared" | "own"]>([
      ["rms", 64, "shared"], ["rms-plus-one", 20, "shared"], ["rms-plus-one", 256, "shared"], ["layer", 20, "own"], ["rms", 7, "own"],
    ])("%s, heads of %d, %s weights", (kind, headDim, sharing) => {
      const width = headDim * 8, size = (count: number) => [sharing === "own" ? count * headDim : headDim];
      const inputs = [random([37, width], 1, dtype, 2), random(size(4), 2, dtype), random(size(2), 3, dtype)] as const;
      const slope = random([37, width], 4, dtype);
      const run = (to: "float64" | typeof dtype, f: (x: Tensor, q: Tensor, k: Tensor) => Tensor) => {
        const leaves = inputs.map((x) => x.to(to).detach().requiresGrad_()) as [Tensor, Tensor, Tensor], y = f(...leaves);
        y.mul(slope.to(to)).sum().backward();
        return { y: y.detach(), gradients: leaves.map((leaf) => leaf.grad as Tensor) };
      };
      const own = run(dtype, (x, queryWeight, keyWeight) => normalizeHeads(x, heads, { kind, eps, queryWeight, keyWeight }));
      const exact = run("float64", (x, q, k) => plainHeads(x, kind, [q, k], headDim));
      expectSame(own.y, exact.y.data() as Float64Array, { atol: 3e-6 });
      for (const [i, gradient] of own.gradients.entries()) {
        const expected = exact.gradients[i]?.data() as Float64Array;
        const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
        const worst = gradient.numbers().reduce((most, x, j) => Math.max(most, Math.abs(x - (expected[j] ?? Number.NaN))), 0);
        expect(worst / largest, `gradient ${i}`).toBeLessThan(dtype === "float32" ? 2e-6 : 0.006);
      }
      const free = noGrad(() => normalizeHeads(inputs[0], heads, { kind, eps, queryWeight: inputs[1], keyWeight: inputs[2] }));
      expect(free.bytes()).toEqual(own.y.bytes());
    });

    test("weight + 1 of whole rows, forward and backward", () => {
      const make = () => [random([9, 100], 5, dtype).requiresGrad_(), random([100], 6, dtype).requiresGrad_()] as [Tensor, Tensor];
      const slope = random([9, 100], 7, dtype);
      const [x, weight] = make();
      const y = normalize(x, { kind: "rms-plus-one", weight, bias: undefined, eps });
      y.mul(slope).sum().backward();
      const [x64, weight64] = make().map((leaf) => leaf.detach().to("float64").requiresGrad_()) as [Tensor, Tensor];
      const exact = plain(x64, "rms-plus-one", weight64);
      exact.mul(slope.to("float64")).sum().backward();
      expectSame(y.detach(), exact.detach().data() as Float64Array, { atol: 3e-6 });
      const tolerance = { atol: dtype === "float32" ? 1e-5 : 0.02, share: 0.02 };
      expectSame(x.grad as Tensor, (x64.grad as Tensor).data() as Float64Array, tolerance);
      expectSame(weight.grad as Tensor, (weight64.grad as Tensor).data() as Float64Array, tolerance);
    });
  });
});

test("what the operator refuses", () => {
  const projected = zeros([3, 64]), weight = zeros([8]);
  const norm = { kind: "rms", eps, queryWeight: weight, keyWeight: weight } as const;
  const messageOf = (x: Tensor, changes: object = {}) => failure(() => normalizeHeads(x, heads, { ...norm, ...changes })).message;
  expect(messageOf(zeros([3, 60]))).toContain("expected [tokens, (heads + 2 kvHeads) * head size]");
  expect(messageOf(projected, { keyWeight: zeros([9]) })).toContain("expected 32 contiguous elements");
});
