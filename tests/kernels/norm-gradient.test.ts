import assert from "node:assert/strict";
import { afterEach, describe, expect, test } from "vitest";
import { type Norm, normalize } from "../../src/nn/layer-product.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { full, zeros } from "../../src/tensor/create.ts";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { plainNorm } from "../nn/plain-operators.ts";
import { describeKernels } from "./kernel-sets.ts";
import { type FloatType, floatTypes, guarded, random } from "./numbers.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

type Leaves = Record<"x" | "weight" | "bias", Tensor>;
type Used = readonly (keyof Leaves)[];
type Operation = (x: Tensor, norm: Norm) => Tensor;

const drawn = (rows: number, width: number, dtype: FloatType): Leaves => ({
  x: guarded(random([rows, width], 1, dtype, 3).add(1)),
  weight: guarded(random([width], 2, dtype)), bias: guarded(random([width], 3, dtype)),
});

/** Gradients of sum(slope * norm(x)) with respect to what is `used`, in float64 when that is the type. */
function gradients(operation: Operation, kind: Norm["kind"], values: Leaves, used: Used, slope: Tensor, eps: number): Tensor[] {
  const leaf = (name: keyof Leaves) => values[name].detach().requiresGrad_();
  const leaves = used.map(leaf), of = (name: keyof Leaves) => leaves[used.indexOf(name)];
  operation(of("x") ?? values.x, { kind, weight: of("weight"), bias: of("bias"), eps }).mul(slope).sum().backward();
  return leaves.map((x) => x.grad as Tensor);
}

const toDouble = (values: Leaves): Leaves =>
  ({ x: values.x.to("float64"), weight: values.weight.to("float64"), bias: values.bias.to("float64") });

/** Every element is within the tolerance of its own size and of the largest one: sums cancel. */
function expectGradient(actual: Tensor, expected: Tensor, dtype: FloatType, what: string): void {
  assert.deepEqual([actual.dtype, actual.shape], [dtype, expected.shape], what);
  const [found, right] = [actual.numbers(), expected.numbers()], size = Math.max(...right.map(Math.abs));
  // One rounding of the result, in bfloat16 by up to 2^-8; the sums are in float32.
  const relative = dtype === "bfloat16" ? 2 ** -8 : 0;
  for (const [i, value] of found.entries()) {
    const want = right[i] ?? Number.NaN, limit = relative * Math.abs(want) + 3e-6 * size + 1e-7;
    if (!(Math.abs(value - want) <= limit)) assert.fail(`${what}: element ${i} is ${value}, expected ${want} within ${limit}`);
  }
}

const kinds = ["rms", "layer"] as const;
const uses: Used[] = [["x"], ["x", "weight"], ["x", "weight", "bias"], ["x", "bias"], ["weight"], ["bias"]];

describeKernels("gradients of norms", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each(kinds)("of %s are libtorch's in float64, with and without weight and bias", (kind) => {
      for (const width of [1, 2, 15, 16, 17, 33, 100, 576]) {
        const values = drawn(9, width, dtype), slope = random([9, width], 4, dtype);
        for (const used of uses) {
          // Of one or two elements little but eps is left to divide by, and what cancels would be 300 times as large.
          for (const eps of width > 2 ? [1e-5, 0.5] : [0.5]) {
            const found = gradients(normalize, kind, values, used, slope, eps);
            const expected = gradients(plainNorm, kind, toDouble(values), used, slope.to("float64"), eps);
            for (const [i, name] of used.entries())
              expectGradient(found[i] as Tensor, expected[i] as Tensor, dtype, `${name} of ${used}, width ${width}, eps ${eps}`);
          }
        }
      }
    });

    test("of three dimensions, of rows that do not lie together and of a gradient that is one number", () => {
      const x = random([2, 40, 3], 5, dtype), weight = random([40], 6, dtype);
      const run = (operation: Operation, given: Tensor) => {
        const leaf = given.requiresGrad_();
        operation(leaf.transpose(1, 2), { kind: "rms", weight: weight.to(given.dtype), bias: undefined, eps: 1e-5 }).sum().backward();
        return leaf.grad as Tensor;
      };
      expectGradient(run(normalize, x.detach()), run(plainNorm, x.to("float64")), dtype, "x");
    });

    test("leave the bits of the result as they are without", () => {
      const { x, weight, bias } = drawn(70, 33, dtype);
      for (const kind of kinds) {
        const plain = noGrad(() => normalize(x, { kind, weight, bias, eps: 1e-5 })).bytes();
        expect(normalize(x.detach().requiresGrad_(), { kind, weight, bias, eps: 1e-5 }).bytes()).toEqual(plain);
      }
    });

    test("of many rows repeat bit for bit, and are right with any number of threads", () => {
      const values = drawn(3000, 20, dtype), slope = random([3000, 20], 4, dtype), used = ["x", "weight", "bias"] as const;
      const expected = gradients(plainNorm, "layer", toDouble(values), used, slope.to("float64"), 1e-5);
      for (const count of [1, 2, 3]) {
        setNumThreads(count);
        const [first, second] = [0, 1].map(() => gradients(normalize, "layer", values, used, slope, 1e-5));
        for (const [i, name] of used.entries()) {
          expect(second?.[i]?.bytes()).toEqual(first?.[i]?.bytes());
          expectGradient(first?.[i] as Tensor, expected[i] as Tensor, dtype, `${name} with ${count} threads`);
        }
      }
    });

    test("of a row of zeros is the gradient times weight / sqrt(eps), less its mean in layer norm", () => {
      const x = full([1, 4], 0, dtype).requiresGrad_(), slope = full([1, 4], 1, dtype);
      slope.slice(1, 0, 1).fill_(5); // mean 2
      const slopes = (kind: Norm["kind"]) => {
        x.setGrad(undefined);
        normalize(x, { kind, weight: undefined, bias: undefined, eps: 0.25 }).mul(slope).sum().backward();
        return x.grad?.toArray();
      };
      expect([slopes("rms"), slopes("layer")]).toEqual([[[10, 2, 2, 2]], [[6, -2, -2, -2]]]);
    });

    test("NaN stays in its row", () => {
      const x = random([3, 20], 7, dtype);
      x.slice(0, 1, 2).slice(1, 3, 4).fill_(Number.NaN);
      const leaf = x.requiresGrad_();
      normalize(leaf, { kind: "layer", weight: undefined, bias: undefined, eps: 1e-5 }).mul(random([3, 20], 8, dtype)).sum().backward();
      const rows = (leaf.grad ?? zeros([0])).toArray() as number[][];
      expect(rows.map((row) => row.filter(Number.isFinite).length)).toEqual([20, 0, 20]);
    });
  });
});
