import type { DType } from "../native/binding.ts";
import type { Tensor } from "./tensor.ts";

/** A file of named tensors, of whatever format. */
export interface WeightFile {
  readonly path: string;
  names(): string[];
  shape(name: string): readonly number[];
  dtype(name: string): DType;
  /** The tensor in its own dtype, where possible a view of the mapped file; it must not be written to. */
  read(name: string): Tensor;
}

/** Bytes of one element. */
export const elementBytes: Readonly<Record<DType, number>> = {
  float32: 4, bfloat16: 2, float16: 2, float64: 8, int64: 8, int32: 4, int16: 2, int8: 1, uint8: 1, bool: 1,
};

/** Elements `[start, end)` in bytes of a mapped file as a flat tensor of `dtype`. */
export function mappedElements(bytes: Tensor, start: number, end: number, dtype: DType): Tensor {
  const part = bytes.slice(0, start, end);
  // A view of wider elements must start at a multiple of their size; no format promises it, so an odd one is copied.
  return (start % elementBytes[dtype] === 0 ? part : part.clone()).viewAs(dtype);
}
