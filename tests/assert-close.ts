import assert from "node:assert/strict";

/** A number, (nested) arrays or typed arrays of numbers, or anything with `toArray()`, such as a Tensor. */
export type Comparable = number | boolean | bigint | readonly Comparable[] | ArrayBufferView | { toArray(): Comparable };

/**
 * Passes when |actual - expected| <= atol + rtol * |expected|, everywhere. Both must have the same nesting and lengths.
 * NaN is close to nothing; an infinity is close to itself only.
 *
 * @throws {RangeError} for a tolerance so wide that the assertion could not fail
 */
export function assertClose(actual: Comparable, expected: Comparable, { rtol = 1e-5, atol = 1e-7 } = {}): void {
  if (!(rtol <= 0.1 && atol <= 0.1)) throw new RangeError(`tolerance rtol=${rtol} atol=${atol} proves nothing`);
  compare(plain(actual), plain(expected), "", { rtol, atol });
}

type Plain = number | Plain[];

function plain(value: Comparable): Plain {
  if (typeof value === "object" && "toArray" in value) return plain(value.toArray());
  if (ArrayBuffer.isView(value)) return Array.from(value as unknown as ArrayLike<number | bigint>, Number);
  if (typeof value === "object") return (value as readonly Comparable[]).map(plain);
  return Number(value);
}

function compare(actual: Plain, expected: Plain, at: string, tolerance: { rtol: number; atol: number }): void {
  if (typeof actual !== "number" && typeof expected !== "number") {
    assert.equal(actual.length, expected.length, `${at || "value"}: ${actual.length} elements, expected ${expected.length}`);
    for (const [i, inner] of expected.entries()) compare(actual[i] ?? Number.NaN, inner, `${at}[${i}]`, tolerance);
    return;
  }
  if (typeof actual !== "number" || typeof expected !== "number") assert.fail(`${at || "value"}: an array beside a number`);
  const { rtol, atol } = tolerance;
  const close = actual === expected || Math.abs(actual - expected) <= atol + rtol * Math.abs(expected);
  assert.ok(close, `${at && `${at}: `}${actual} is not close to ${expected} (rtol ${rtol}, atol ${atol})`);
}
