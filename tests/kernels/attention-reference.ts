import type { Tensor } from "../../src/tensor/tensor.ts";
import { rounding } from "./numbers.ts";
import { type Inputs, type Setting, scaleOf } from "./paged-attention.ts";

/** What attention gives, and how far a kernel may be from it. */
export interface Expected {
  y: Float64Array;
  bound: Float64Array;
}

const numbersOf = (x: Tensor | undefined): Float64Array => Float64Array.from((x?.data() ?? []) as Float32Array);

/**
 * Attention in float64 on the keys and values as they are, no pages: for each step and row the result of the token `step` places after
 * the row's prompt.
 */
export function referenceAttention(setting: Setting, inputs: Inputs): Expected[][] {
  const { prompts, steps } = setting;
  const rows = inputs.rows.map((row) => rotated(setting, inputs, row));
  return Array.from({ length: steps }, (_, step) => rows.map((row, r) => attendAt(setting, inputs, row, (prompts[r] as number) + step)));
}

/** The tokens of one row with queries and keys rotated: each product with a cosine and each sum is rounded. */
export function rotated({ dtype, heads, kvHeads, headDim, dims = 0 }: Setting, inputs: Inputs, row: Tensor): Float64Array {
  const x = numbersOf(row), y = x.slice(), cos = numbersOf(inputs.cos), sin = numbersOf(inputs.signedSin), round = rounding(dtype);
  const width = (heads + 2 * kvHeads) * headDim, half = dims / 2;
  for (let token = 0; token < x.length / width; token++) {
    for (let head = 0; head < heads + kvHeads; head++) {
      const start = token * width + head * headDim;
      for (let i = 0; i < dims; i++) {
        const partner = x[start + ((i + half) % dims)] as number, at = token * dims + i;
        y[start + i] = round(round((x[start + i] as number) * (cos[at] as number)) + partner * (sin[at] as number));
      }
    }
  }
  return y;
}

/** For one token: softmax(cap(q k^T scale) + slope * distance) v over the tokens that the window shows. */
export function attendAt(setting: Setting, inputs: Inputs, row: Float64Array, position: number): Expected {
  const { dtype, heads, kvHeads, headDim, window = 0, softcap = 0 } = setting, width = (heads + 2 * kvHeads) * headDim;
  const scale = scaleOf(setting), slopes = numbersOf(inputs.slopes), first = window > 0 ? Math.max(0, position + 1 - window) : 0;
  const y = new Float64Array(heads * headDim), sizes = y.slice(), squares = y.slice(), bound = y.slice();
  for (let head = 0; head < heads; head++) {
    const kvHead = Math.floor(head / (heads / kvHeads)), query = position * width + head * headDim;
    const scores = new Float64Array(position + 1 - first);
    let largestDot = 0;
    for (let t = first; t <= position; t++) {
      const key = t * width + (heads + kvHead) * headDim;
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += (row[query + d] as number) * (row[key + d] as number);
      largestDot = Math.max(largestDot, Math.abs(dot * scale));
      const capped = softcap > 0 ? softcap * Math.tanh((dot * scale) / softcap) : dot * scale;
      scores[t - first] = capped + (slopes[head] ?? 0) * (t - position);
    }
    const most = scores.reduce((a, b) => Math.max(a, b)), weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((a, b) => a + b);
    for (let t = first; t <= position; t++) {
      const value = t * width + (heads + kvHeads + kvHead) * headDim, weight = (weights[t - first] as number) / total;
      for (let d = 0; d < headDim; d++) {
        const part = weight * (row[value + d] as number);
        (y[head * headDim + d] as number) += part;
        (sizes[head * headDim + d] as number) += Math.abs(part);
        (squares[head * headDim + d] as number) += part * part;
      }
    }
    // Sums in float32 err by some 1e-6 of the largest score, which e^x makes a relative error of the weights. bfloat16 adds the rounding
    // of the result and of each weight, by at most 2^-8 of it and as often up as down: their sum grows as a random walk.
    const relative = 2e-6 * (5 + largestDot), half = dtype === "bfloat16" ? 2 ** -8 : 0;
    for (let i = head * headDim; i < (head + 1) * headDim; i++)
      bound[i] = relative * (sizes[i] as number) + half * (Math.abs(y[i] as number) + 3 * Math.sqrt(squares[i] as number)) + 1e-7;
  }
  return { y, bound };
}
