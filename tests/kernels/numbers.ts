import assert from "node:assert/strict";
import type { DType } from "../../src/native/binding.ts";
import { full, Generator, randn } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

/** The two types that the kernels know. */
export type FloatType = "float32" | "bfloat16";
export const floatTypes: readonly FloatType[] = ["float32", "bfloat16"];

const float = new Float32Array(1), bits = new Uint32Array(float.buffer);

/** The nearest bfloat16, ties to even, of a finite number. */
export function roundBfloat16(x: number): number {
  float[0] = x;
  const pattern = bits[0] ?? 0;
  bits[0] = (pattern + 0x7fff + ((pattern >>> 16) & 1)) & 0xffff0000;
  return float[0] ?? Number.NaN;
}

/** What storing a number in a tensor of that type does to it. float32 is left as it is: sums differ by more than that. */
export const rounding = (dtype: DType): ((x: number) => number) => (dtype === "bfloat16" ? roundBfloat16 : (x) => x);

/** Normal numbers times `scale`, the same for the same seed. */
export function random(shape: readonly number[], seed: number, dtype: FloatType, scale = 1): Tensor {
  return randn(shape, new Generator(seed)).mul(scale).to(dtype);
}

/** The same values in the midst of a larger tensor of NaN (127 in int8), where vectors do not start at a multiple of their size. */
export function guarded(x: Tensor): Tensor {
  const before = 67, around = full([x.size + 2 * before], x.dtype === "int8" ? 127 : Number.NaN, x.dtype);
  const view = around.slice(0, before, before + x.size).reshape(x.shape);
  view.copy_(x);
  return view;
}

/** The distance between neighbouring bfloat16 numbers of that size. */
const unit = (x: number): number => 2 ** (Math.floor(Math.log2(Math.max(Math.abs(x), 2 ** -126))) - 7);

/**
 * In float32: |actual - expected| <= rtol |expected| + atol. In bfloat16, where `expected` was rounded wherever the kernel rounds:
 * equal, but for a share of elements (and one) where a sum in float32 fell on the other side of a tie; those differ by at most `units`
 * in the last place, or `atol`.
 */
export function expectSame(
  actual: Tensor, expected: ArrayLike<number>, { rtol = 1e-5, atol = 3e-6, units = 1, share = 0.01, what = "" } = {},
): void {
  const values = actual.data() as Float32Array, round = rounding(actual.dtype), exact = actual.dtype === "bfloat16";
  assert.equal(values.length, expected.length, `${what}: number of elements`);
  let different = 0;
  for (const [i, value] of values.entries()) {
    const want = round(expected[i] ?? Number.NaN), distance = Math.abs(value - want);
    const limit = atol + (exact ? units * unit(want) : rtol * Math.abs(want));
    if (!(distance <= limit)) assert.fail(`${what}: element ${i} is ${value}, expected ${want} within ${limit}`);
    if (distance > 1e-9) different++; // smaller ones underflow here and there
  }
  if (exact) assert.ok(different <= 1 + share * values.length, `${what}: ${different} of ${values.length} elements differ`);
}

/** |actual - expected| <= bound, element by element. */
export function expectWithin(actual: Tensor, expected: ArrayLike<number>, bounds: ArrayLike<number>, what = ""): void {
  const values = actual.data() as Float32Array;
  assert.equal(values.length, expected.length, `${what}: number of elements`);
  for (const [i, value] of values.entries()) {
    const want = expected[i] ?? Number.NaN, bound = bounds[i] ?? Number.NaN;
    if (!(Math.abs(value - want) <= bound)) assert.fail(`${what}: element ${i} is ${value}, expected ${want} within ${bound}`);
  }
}
