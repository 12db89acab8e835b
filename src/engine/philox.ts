/** High and low 32 bits of a 32 x 32 bit product. */
function multiply(a: number, b: number): [high: number, low: number] {
  const aLow = a & 0xffff, aHigh = a >>> 16, bLow = b & 0xffff, bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = (middle & 0xffff) + aLow * bHigh;
  const high = aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000);
  return [high >>> 0, Math.imul(a, b) >>> 0];
}

/** Four 32-bit words of a counter. */
export type Counter = readonly [number, number, number, number];

/**
 * Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): four random words, a pure function of
 * counter and key.
 */
export function philox(counter: Counter, key: readonly [number, number]): Counter {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

const WORD = 2 ** 32;

/**
 * The number in [0, 1) that draws one token: a function of seed, request and position only, never of slot, batch or
 * rank, so a request gives the same tokens however it is batched.
 */
export function uniformAt(seed: number, request: number, position: number): number {
  const counter: Counter = [request >>> 0, Math.floor(request / WORD) >>> 0, position >>> 0, 0];
  const [a, b] = philox(counter, [seed >>> 0, Math.floor(seed / WORD) >>> 0]);
  return ((a >>> 5) * 2 ** 26 + (b >>> 6)) / 2 ** 53; // 53 random bits
}
