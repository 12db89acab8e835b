import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import type { RotaryTables } from "./rotary.ts";

const op = { packedAttention: operator("tschat::packed_attention") };

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

/**
 * Every packed sequence sees itself alone, each token the tokens up to it. The same kernel on the same layout as in generation, with
 * gradient.
 *
 * @param rotary of all positions that occur, or undefined where the model has no rotary ones
 */
export function packedAttention(offsets: readonly number[], shape: HeadShape, rotary: RotaryTables | undefined): AttentionContext {
  const { numHeads, numKvHeads, headDim } = shape;
  const [cos, signedSin] = [rotary?.cos.handle ?? null, rotary?.signedSin.handle ?? null];
  return {
    attend: (_layer, projected) =>
      new Tensor(op.packedAttention(projected.handle, offsets, cos, signedSin, numHeads, numKvHeads, headDim ** -0.5)),
  };
}
