import { noGrad } from "../tensor/autograd.ts";
import { indices } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { CheckpointEntry } from "./families/family.ts";

type Layout = Pick<CheckpointEntry, "shape" | "transposed" | "order">;

/** Shape of a checkpoint's tensor as rows of its leaf. */
export function leafShape({ shape, transposed }: Pick<Layout, "shape" | "transposed">): readonly number[] {
  return transposed ? [...shape].reverse() : shape;
}

/** A checkpoint's tensor as the rows of its leaf. */
export function toLeaf({ transposed, order }: Layout, stored: Tensor): Tensor {
  return noGrad(() => {
    const rows = transposed ? stored.transpose(0, 1) : stored;
    return order ? rows.indexSelect(0, indices(order)) : rows;
  });
}

/** Rows of a leaf as the checkpoint has them; a view where they lie alike. */
export function toCheckpoint({ transposed, order }: Layout, rows: Tensor): Tensor {
  return noGrad(() => {
    const ordered = order ? rows.indexSelect(0, indices(inverse(order))) : rows;
    return transposed ? ordered.transpose(0, 1).contiguous() : ordered;
  });
}

/** Layers share the objects of their orders. */
const inverses = new WeakMap<readonly number[], readonly number[]>();

function inverse(order: readonly number[]): readonly number[] {
  const known = inverses.get(order);
  if (known) return known;
  const result = new Array<number>(order.length);
  for (const [i, row] of order.entries()) result[row] = i;
  inverses.set(order, result);
  return result;
}
