import fc from "fast-check";
import { afterEach, expect, test } from "vitest";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { describeKernels } from "./kernel-sets.ts";
import { type FloatType, floatTypes } from "./numbers.ts";
import { activations, draw, multiply, norms, type Wanted } from "./product.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

const wanted: fc.Arbitrary<Wanted> = fc.record({
  rows: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 65, max: 90 })),
  width: fc.oneof(fc.integer({ min: 1, max: 80 }), fc.constantFrom(576, 3000)), outputs: fc.integer({ min: 1, max: 40 }),
  dtype: fc.constantFrom<FloatType>(...floatTypes), norm: fc.constantFrom(...norms), normVectors: fc.integer({ min: 0, max: 2 }),
  activation: fc.constantFrom(...activations), gated: fc.boolean(), bias: fc.boolean(), residual: fc.boolean(), int8: fc.boolean(),
  seed: fc.nat(1000),
});

/** The bits of one row. */
const row = (y: Tensor, i: number): Uint8Array => y.slice(0, i, i + 1).contiguous().bytes();

describeKernels("the product of few rows", () => {
  test("every row is bit for bit what it is alone, whatever the others are", () => {
    fc.assert(fc.property(wanted, (sizes) => {
      const product = draw(sizes), y = multiply(product);
      for (let i = 0; i < sizes.rows; i++) {
        const alone = multiply({ ...product, x: product.x.slice(0, i, i + 1), residual: product.residual?.slice(0, i, i + 1) });
        if (!Buffer.from(row(y, i)).equals(alone.bytes())) throw new Error(`row ${i} differs`);
      }
    }), { numRuns: 30, seed: 1 });
  });

  test("the number of threads changes no bit", () => {
    for (const dtype of floatTypes) {
      const product = draw({ rows: 70, width: 3000, outputs: 50, dtype, norm: "rms", gated: true, activation: "silu" });
      const few = { ...product, x: product.x.slice(0, 0, 5) };
      setNumThreads(1);
      const [one, oneFew] = [multiply(product).bytes(), multiply(few).bytes()];
      for (const many of [2, 3]) {
        setNumThreads(many);
        expect(Buffer.from(multiply(product).bytes()).equals(one)).toBe(true);
        expect(Buffer.from(multiply(few).bytes()).equals(oneFew)).toBe(true);
      }
    }
  });
});
