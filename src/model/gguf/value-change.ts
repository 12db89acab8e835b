import { indices } from "../../tensor/create.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** How a tensor in a GGUF file differs from the one in the Hugging Face folder. */
export type ValueChange =
  /** Row `i` of the file is row `order(rows)[i]` of the folder. */
  | { readonly kind: "rows"; order(rows: number): number[] }
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
    case "rows": {
      const order = change.order(tensor.shape[0] ?? 0), inverse = new Array<number>(order.length);
      for (const [stored, row] of order.entries()) inverse[row] = stored;
      return tensor.indexSelect(0, indices(inverse));
    }
    default: return change satisfies never;
  }
}

/** The file's tensor from the folder's. */
export function toGguf(tensor: Tensor, change: ValueChange | undefined): Tensor {
  switch (change?.kind) {
    case undefined: return tensor;
    case "shift": return tensor.to("float32").add(change.by);
    case "transpose": return tensor.transpose(0, 1).contiguous();
    case "rows": return tensor.indexSelect(0, indices(change.order(tensor.shape[0] ?? 0)));
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
    order: (rows) => {
      const headDim = rows / (numHeads + 2 * numKvHeads), perGroup = numHeads / numKvHeads;
      const heads = Array.from({ length: numHeads }, (_, head) => Math.floor(head / perGroup) * (perGroup + 2) + (head % perGroup));
      const after = (place: number) => Array.from({ length: numKvHeads }, (_, group) => group * (perGroup + 2) + perGroup + place);
      return [...heads, ...after(0), ...after(1)].flatMap((head) => Array.from({ length: headDim }, (_, row) => head * headDim + row));
    },
  };
}
