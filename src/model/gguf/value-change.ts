import type { Tensor } from "../../tensor/tensor.ts";
import { groupedOrder } from "../families/entries.ts";
import { toCheckpoint, toLeaf } from "../layout.ts";

/** How a tensor in a GGUF file differs from the one in the Hugging Face folder. */
export type ValueChange =
  /** Row `i` of the file is row `order(rows)[i]` of the folder. */
  | { readonly kind: "rows"; order(rows: number): readonly number[] }
  /** The file has `by` more than the folder in every element. */
  | { readonly kind: "shift"; readonly by: number }
  /** The file's matrix is the transposed one. */
  | { readonly kind: "transpose" };

/** The folder's tensor from the file's. */
export function fromGguf(tensor: Tensor, change: ValueChange | undefined): Tensor {
  switch (change?.kind) {
    case undefined: return tensor;
    case "shift": return tensor.sub(change.by);
    case "transpose": return tensor.transpose(0, 1).contiguous();
    case "rows": return toCheckpoint({ shape: tensor.shape, order: change.order(tensor.shape[0] ?? 0) }, tensor);
    default: return change satisfies never;
  }
}

/** The file's tensor from the folder's. */
export function toGguf(tensor: Tensor, change: ValueChange | undefined): Tensor {
  switch (change?.kind) {
    case undefined: return tensor;
    case "shift": return tensor.to("float32").add(change.by);
    case "transpose": return tensor.transpose(0, 1).contiguous();
    case "rows": return toLeaf({ shape: tensor.shape, order: change.order(tensor.shape[0] ?? 0) }, tensor);
    default: return change satisfies never;
  }
}

/**
 * Rotary neighbours: llama.cpp rotates rows (2i, 2i + 1) of a head where Hugging Face rotates (i, i + headDim / 2), so its converter
 * stores row `half * headDim / 2 + i` of a head as row `2 * i + half`.
 */
export function rotaryNeighbours(numHeads: number): ValueChange {
  return {
    kind: "rows",
    order: (rows) => {
      const headDim = rows / numHeads;
      return Array.from({ length: rows }, (_, row) => {
        const inHead = row % headDim;
        return row - inHead + (inHead % 2) * (headDim / 2) + (inHead >> 1);
      });
    },
  };
}

/**
 * Query, key and value in one matrix: the folder has groups of `numHeads / numKvHeads` query heads with their key and value head, the
 * file all query heads, then all key heads, then all value heads.
 */
export function groupedHeads(numHeads: number, numKvHeads: number): ValueChange {
  return {
    kind: "rows",
    order: (rows) => groupedOrder(numKvHeads, numHeads / numKvHeads, rows / (numHeads + 2 * numKvHeads)),
  };
}
