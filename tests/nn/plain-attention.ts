import type { HeadShape } from "../../src/nn/attention.ts";
import type { RotaryTables } from "../../src/nn/rotary.ts";
import { cat, indices } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { causalAttention, roll } from "./plain-operators.ts";

/** [total, heads, headDim] with the first `dims` of every head rotated; the tables, [total, dims], have a row for each token. */
export function rotate(x: Tensor, { cos, signedSin }: RotaryTables): Tensor {
  const dims = cos.shape[1] ?? 0, part = x.slice(2, 0, dims);
  const rotated = part.mul(cos.unsqueeze(1)).add(roll(part, dims / 2).mul(signedSin.unsqueeze(1)));
  return cat([rotated, x.slice(2, dims)], 2);
}

/**
 * Causal attention of packed sequences: q [total, heads, headDim], k and v [total, kvHeads, headDim], rotated ->
 * [total, heads * headDim].
 */
export function attendPacked(offsets: readonly number[], q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [total, heads, headDim] = q.shape as [number, number, number];
  const lengths = offsets.slice(1).map((end, i) => end - (offsets[i] ?? 0));
  const sequences = (x: Tensor) => x.unsqueeze(0).transpose(1, 2).split(lengths, 2); // [1, heads, seq, headDim] each
  const keys = sequences(expandHeads(k, heads)), values = sequences(expandHeads(v, heads));
  const parts = sequences(q).map((queries, i) =>
    causalAttention(queries, keys[i] as Tensor, values[i] as Tensor, headDim ** -0.5).squeeze(0).transpose(0, 1));
  return cat(parts).reshape([total, heads * headDim]);
}

/** [total, kvHeads, headDim] -> [total, heads, headDim], each key head repeated for the queries that share it. */
export function expandHeads(x: Tensor, heads: number): Tensor {
  const [total, kvHeads, headDim] = x.shape as [number, number, number];
  return x.unsqueeze(2).expand([total, kvHeads, heads / kvHeads, headDim]).reshape([total, heads, headDim]);
}

/** [total, (heads + 2 kvHeads) * headDim] as queries, keys and values, [total, heads or kvHeads, headDim]. */
export function splitHeads(projected: Tensor, { numHeads, numKvHeads, headDim }: HeadShape): [Tensor, Tensor, Tensor] {
  const heads = projected.reshape([projected.shape[0] ?? 0, -1, headDim]);
  return heads.split([numHeads, numKvHeads, numKvHeads], 1) as [Tensor, Tensor, Tensor];
}

/** What `packedAttention` computes of `projected`. */
export function plainPackedAttention(
  offsets: readonly number[], shape: HeadShape, rotary: RotaryTables | undefined, projected: Tensor,
): Tensor {
  const [q, k, v] = splitHeads(projected, shape);
  if (!rotary) return attendPacked(offsets, q, k, v);
  const places = indices(offsets.slice(1).flatMap((end, i) => Array.from({ length: end - (offsets[i] ?? 0) }, (_, t) => t)));
  const tables = { cos: rotary.cos.indexSelect(0, places), signedSin: rotary.signedSin.indexSelect(0, places) };
  return attendPacked(offsets, rotate(q, tables), rotate(k, tables), v);
}
