import { ConfigError } from "../../errors.ts";
import type { DType } from "../../native/binding.ts";
import { noGrad } from "../../tensor/autograd.ts";
import { fromData } from "../../tensor/create.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";

/** The number formats that a GGUF file can be written in. */
export type GgufDtype = "f32" | "f16" | "bf16" | "q8_0";

interface Encoding {
  /** GGML's number of the type of a tensor. */
  type: number;
  /** llama.cpp's number of the type of a whole file (`general.file_type`). */
  fileType: number;
  blockSize: number;
  blockBytes: number;
  encode(values: Tensor): Uint8Array;
}

/** The formats by name. */
export const ENCODINGS: Readonly<Record<GgufDtype, Encoding>> = {
  f32: { type: 0, fileType: 0, blockSize: 1, blockBytes: 4, encode: (values) => values.to("float32").bytes() },
  f16: { type: 1, fileType: 1, blockSize: 1, blockBytes: 2, encode: (values) => half(values).bytes() },
  bf16: { type: 30, fileType: 32, blockSize: 1, blockBytes: 2, encode: (values) => values.to("bfloat16").bytes() },
  q8_0: { type: 8, fileType: 7, blockSize: 32, blockBytes: 34, encode: q8 },
};

/** The format that holds every number of a dtype. */
export const DTYPE_ENCODINGS: Readonly<Partial<Record<DType, GgufDtype>>> = { float32: "f32", float16: "f16", bfloat16: "bf16" };

/** Elements that are encoded at once. */
const CHUNK = 2 ** 20;

/** The bytes of a tensor in pieces of some megabytes. */
export function* encodePieces(tensor: Tensor, encoding: Encoding): Generator<Uint8Array> {
  const flat = noGrad(() => tensor.contiguous().reshape([tensor.size]));
  for (let from = 0; from < flat.size; from += CHUNK) {
    yield noGrad(() => tidy(() => encoding.encode(flat.slice(0, from, Math.min(from + CHUNK, flat.size)))));
  }
}

/** float16, which ends at 65504. @throws {ConfigError} for larger numbers, which would become infinite */
function half(values: Tensor): Tensor {
  const halves = values.to("float16");
  if (values.dtype !== "float16" && halves.isFinite().all().item() === 0) {
    throw new ConfigError("a weight is larger than 65504, the largest number of f16; export in bf16 or f32");
  }
  return halves;
}

/**
 * Q8_0, bit for bit as llama.cpp's quantiser: blocks of 32 with `scale = largest / 127`, stored in half precision, and
 * `round(value * (1 / scale))`, all in float32, halves away from zero.
 */
function q8(tensor: Tensor): Uint8Array {
  const values = tensor.to("float32").data() as Float32Array;
  const blocks = values.length / 32;
  const scales = new Float32Array(blocks), quants = new Int8Array(values.length);
  for (let block = 0; block < blocks; block++) {
    let largest = 0;
    for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(values[block * 32 + i] ?? 0));
    const scale = Math.fround(largest / 127), inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    scales[block] = scale;
    for (let i = 0; i < 32; i++) {
      const scaled = Math.fround((values[block * 32 + i] ?? 0) * inverse), size = Math.abs(scaled), whole = Math.floor(size);
      const rounded = size - whole >= 0.5 ? whole + 1 : whole;
      quants[block * 32 + i] = scaled < 0 ? -rounded : rounded;
    }
  }
  const halves = fromData(scales, [blocks], "float32").to("float16").bytes();
  const out = new Uint8Array(blocks * 34), bytes = new Uint8Array(quants.buffer);
  for (let block = 0; block < blocks; block++) {
    out.set(halves.subarray(block * 2, block * 2 + 2), block * 34);
    out.set(bytes.subarray(block * 32, block * 32 + 32), block * 34 + 2);
  }
  return out;
}
