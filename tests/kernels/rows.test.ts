import { describe, expect, test } from "vitest";
import type { Activation } from "../../src/nn/functional.ts";
import { arange, full, zeros } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { failure } from "../failure.ts";
import { activate, plainNorm } from "../nn/plain-operators.ts";
import { describeKernels } from "./kernel-sets.ts";
import { expectSame, floatTypes, guarded, random, rounding } from "./numbers.ts";
import { activations, norms } from "./product.ts";

const op = { norm: operator("tschat::norm_rows"), activate: operator("tschat::activate_rows") };

function norm(x: Tensor, kind: (typeof norms)[number], weight?: Tensor, bias?: Tensor, eps = 1e-5): Tensor {
  return new Tensor(op.norm(x.handle, norms.indexOf(kind), weight?.handle ?? null, bias?.handle ?? null, eps));
}
function activateRows(x: Tensor, activation: string, gated = false): Tensor {
  return new Tensor(op.activate(x.handle, (activations as readonly string[]).indexOf(activation), gated));
}

const widths = [1, 2, 15, 16, 17, 31, 32, 33, 100, 576];
/** libtorch's operator in float64, without rounding on the way. */
function exactly(operation: (...inputs: Tensor[]) => Tensor, ...inputs: (Tensor | undefined)[]): Float64Array {
  return operation(...inputs.map((x) => x?.to("float64") as Tensor)).data() as Float64Array;
}
const libtorch = {
  rms: (eps: number) => (x: Tensor, weight?: Tensor, bias?: Tensor) => plainNorm(x, { kind: "rms", weight, bias, eps }),
  layer: (eps: number) => (x: Tensor, weight?: Tensor, bias?: Tensor) => plainNorm(x, { kind: "layer", weight, bias, eps }),
  activate: (activation: string) => (x: Tensor) => (activation === "none" ? x : activate(x, activation as Activation)),
};

describeKernels("rows", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test("norms are libtorch's", () => {
      for (const width of widths) {
        const x = guarded(random([9, width], 1, dtype, 3).add(1));
        const [weight, bias] = [2, 3].map((seed) => guarded(random([width], seed, dtype)));
        for (const [w, b] of [[undefined, undefined], [weight, undefined], [weight, bias]]) {
          for (const eps of [1e-5, 0.5]) {
            const tolerance = { what: `width ${width}, eps ${eps}`, atol: 2e-6 };
            expectSame(norm(x, "layer", w, b, eps), exactly(libtorch.layer(eps), x, w, b), tolerance);
            expectSame(norm(x, "rms", w, b, eps), exactly(libtorch.rms(eps), x, w, b), tolerance);
          }
        }
      }
    });

    test("norms of rows far from 0, of zeros, and of three dimensions", () => {
      const far = random([4, 40], 4, "float32").add(100).to(dtype), flat = zeros([2, 40], dtype);
      expectSame(norm(far, "layer"), exactly(libtorch.layer(1e-5), far), { atol: 2e-5, share: 0.02 });
      for (const kind of ["rms", "layer"] as const) expect(norm(flat, kind).numbers()).toEqual(flat.numbers());
      const cube = random([2, 3, 40], 5, dtype), y = norm(cube, "rms");
      expect(y.shape).toEqual([2, 3, 40]);
      expectSame(y, exactly(libtorch.rms(1e-5), cube));
    });

    test.each(activations)("%s is libtorch's, also gated", (activation) => {
      const apply = libtorch.activate(activation);
      for (const width of widths) {
        const x = guarded(random([41, width], 6, dtype, 3)), pair = guarded(random([41, 2 * width], 7, dtype, 2));
        // Where gelu is a small difference of large numbers the two differ by 2e-7 |x|.
        const tolerance = { what: `width ${width}`, atol: 2e-6, share: 0.1 };
        expectSame(activateRows(x, activation), exactly(apply, x), tolerance);
        const [gate, up] = pair.split([width, width], 1) as [Tensor, Tensor];
        const active = Float64Array.from(exactly(apply, gate.contiguous()), rounding(dtype)), factors = up.contiguous().data();
        const expected = active.map((value, i) => value * Number(factors[i]));
        expectSame(activateRows(pair, activation, true), expected, { ...tolerance, atol: 1e-5, units: 2 });
      }
    });

    test.each(activations)("%s over all sizes of x", (activation) => {
      // Of these only silu is as exact in its tail as elsewhere: e^x to 2 units in the last place, 2.4e-7, and three roundings.
      const tolerance = activation.startsWith("gelu") ? { atol: 2e-6 } : { rtol: 5e-7, atol: 1e-28 };
      // -100 to 100 in steps of 1/16 and the powers of 2 from 2^-30 to 2^30, with both signs.
      const powers = full([61], 2, "float64").log().mul(arange(-30, 31, "float64")).exp().to(dtype);
      for (const x of [arange(-1600, 1601, "float32").div(16).to(dtype), powers, powers.neg()])
        expectSame(activateRows(x, activation), exactly(libtorch.activate(activation), x), { ...tolerance, share: 0.1 });
    });

    test.each(activations)("%s of infinity and NaN", (activation) => {
      const x = full([3], Number.NEGATIVE_INFINITY, dtype);
      x.slice(0, 0, 1).fill_(Number.POSITIVE_INFINITY);
      x.slice(0, 1, 2).fill_(Number.NaN);
      const [infinite, nan, negative] = activateRows(x, activation).numbers();
      expect(nan).toBeNaN();
      if (activation === "relu") expect([infinite, negative]).toEqual([Number.POSITIVE_INFINITY, 0]);
      else for (const y of [infinite, negative]) expect(y).not.toSatisfy(Number.isFinite); // libtorch: some infinite, some NaN
    });
  });
});

describe("what the operators refuse", () => {
  const x = random([2, 8], 1, "float32");
  test.each([
    ["an unknown norm", () => norm(x, "other" as "rms"), "norm: expected 0 (none), 1 (rms), 2 (layer) or 3 (rms-plus-one), got -1"],
    ["norm weights of another size", () => norm(x, "rms", zeros([7])),
      "norm weight: expected 8 contiguous elements of Float, got Float[7]"],
    ["a norm bias of another type", () => norm(x, "layer", zeros([8]), zeros([8], "bfloat16")),
      "norm bias: expected 8 contiguous elements of Float, got BFloat16[8]"],
    ["float64 in a norm", () => norm(x.to("float64"), "rms"), "expected float32 or bfloat16, got Double"],
    ["rows of nothing in a norm", () => norm(zeros([2, 0]), "rms"), "expected rows of at least one element, got [2, 0]"],
    ["an unknown activation", () => activateRows(x, "other"),
      "activation: expected 0 (none), 1 (silu), 2 (gelu), 3 (gelu-tanh) or 4 (relu), got -1"],
    ["half a gate", () => activateRows(zeros([2, 7]), "silu", true), "a gated activation needs an even width, got 7"],
    ["float64 in an activation", () => activateRows(x.to("float64"), "silu"), "expected float32 or bfloat16, got Double"],
    ["rows of nothing in an activation", () => activateRows(zeros([2, 0]), "silu"), "expected rows of at least one element, got [2, 0]"],
    ["a number in an activation", () => activateRows(zeros([]), "silu"), "expected rows of at least one element, got []"],
  ])("%s", (_, use, message) => {
    const error = failure(use);
    expect(error).toMatchObject({ name: "NativeError", code: "E_NATIVE" });
    expect(error.message).toContain(message);
  });

  test("a gradient of an activation alone", () => {
    const leaf = random([2, 8], 2, "float32").requiresGrad_();
    expect(() => activateRows(leaf, "silu").sum().backward()).toThrow(/activate_rows/);
  });
});
