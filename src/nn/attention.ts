import { cat } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { causalAttention } from "./functional.ts";
import { type RotaryTables, rotate } from "./rotary.ts";

/** Numbers of heads and their size. */
export interface HeadShape {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
}

/** How the layers of one forward pass reach keys and values: within the pass, or through a cache. */
export interface AttentionContext {
  /**
   * @param layer index of the calling layer
   * @param projected [total, (numHeads + 2 numKvHeads) * headDim]: queries, keys and values of every token, not yet rotated
   * @returns [total, numHeads * headDim]
   */
  attend(layer: number, projected: Tensor): Tensor;
}

/** Every packed sequence sees itself alone, each token the tokens up to it. */
export function packedAttention(offsets: readonly number[], shape: HeadShape, rotary: RotaryTables | undefined): AttentionContext {
  return {
    attend: (_layer, projected) => {
      const { numHeads, numKvHeads, headDim } = shape;
      const heads = projected.reshape([projected.shape[0] ?? 0, -1, headDim]);
      const [queryKey, value] = heads.split([numHeads + numKvHeads, numKvHeads], 1) as [Tensor, Tensor];
      // Queries and keys lie together, so one rotation serves both.
      const [query, key] = (rotary ? rotate(queryKey, rotary) : queryKey).split([numHeads, numKvHeads], 1) as [Tensor, Tensor];
      return attendPacked(offsets, query, key, value);
    },
  };
}

/**
 * Causal attention of packed sequences: q [total, heads, headDim], k and v [total, kvHeads, headDim], rotated ->
 * [total, heads * headDim].
 */
export function attendPacked(offsets: readonly number[], q: Tensor, k: Tensor, v: Tensor): Tensor {
  const [total, heads, headDim] = q.shape as [number, number, number];
  const scale = headDim ** -0.5;
  // libtorch's fast CPU kernel takes equal numbers of heads only; expanding keys and values costs less than the slow one.
  const lengths = offsets.slice(1).map((end, i) => end - (offsets[i] ?? 0));
  const sequences = (x: Tensor) => x.unsqueeze(0).transpose(1, 2).split(lengths, 2); // [1, heads, seq, headDim] each
  const keys = sequences(expandHeads(k, heads)), values = sequences(expandHeads(v, heads));
  const parts = sequences(q).map((queries, i) =>
    causalAttention(queries, keys[i] as Tensor, values[i] as Tensor, scale).squeeze(0).transpose(0, 1));
  return (parts.length === 1 && parts[0] ? parts[0] : cat(parts)).reshape([total, heads * headDim]);
}

/** [total, kvHeads, headDim] -> [total, heads, headDim], each key head repeated for the queries that share it. */
function expandHeads(x: Tensor, heads: number): Tensor {
  const [total, kvHeads, headDim] = x.shape as [number, number, number];
  if (kvHeads === heads) return x;
  return x.unsqueeze(2).expand([total, kvHeads, heads / kvHeads, headDim]).reshape([total, heads, headDim]);
}
