import { writeFileSync } from "node:fs";

/** GGML's numbers of the tensor types that tests write. */
export const GGML_TYPES = {
  F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q5_0: 6, Q5_1: 7, Q8_0: 8, Q2_K: 10, Q3_K: 11, Q4_K: 12, Q5_K: 13, Q6_K: 14, IQ1_S: 19, IQ4_NL: 20,
  IQ4_XS: 23, BF16: 30,
} as const;

export interface GgufTensor {
  name: string;
  /** Hugging Face's order, `[out, in]`. */
  shape: readonly number[];
  type: keyof typeof GGML_TYPES;
  /** The stored bytes, as they are. */
  data: Uint8Array;
}

export type GgufValue = string | boolean | number | readonly string[] | readonly number[];

const ALIGNMENT = 32;

/** Little-endian bytes of float32 values: the data of an F32 tensor. */
export function float32Bytes(values: readonly number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** Writes a GGUF file, version 3. Whole numbers become uint32 (in lists int32), other numbers float32. */
export function writeGguf(path: string, metadata: Readonly<Record<string, GgufValue>>, tensors: readonly GgufTensor[]): void {
  const header = [Buffer.from("GGUF"), uint32(3), uint64(tensors.length), uint64(Object.keys(metadata).length)];
  for (const [key, value] of Object.entries(metadata)) header.push(text(key), typedValue(value));
  const data: Buffer[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    const sizes = [...tensor.shape].reverse().map(uint64);
    header.push(text(tensor.name), uint32(sizes.length), ...sizes, uint32(GGML_TYPES[tensor.type]), uint64(offset));
    const padded = padTo(Buffer.from(tensor.data));
    data.push(padded);
    offset += padded.length;
  }
  writeFileSync(path, Buffer.concat([padTo(Buffer.concat(header)), ...data]));
}

function typedValue(value: GgufValue): Buffer {
  if (typeof value === "string") return Buffer.concat([uint32(8), text(value)]);
  if (typeof value === "boolean") return Buffer.concat([uint32(7), Buffer.from([value ? 1 : 0])]);
  if (typeof value === "number")
    return Number.isInteger(value) ? Buffer.concat([uint32(4), uint32(value)]) : Buffer.concat([uint32(6), float32(value)]);
  if (value.every((entry) => typeof entry === "string")) return list(8, value.map(text));
  return value.every(Number.isInteger) ? list(5, value.map(int32)) : list(6, value.map(float32));
}

function list(type: number, entries: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32(9), uint32(type), uint64(entries.length), ...entries]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function padTo(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & (ALIGNMENT - 1))]);
}

function uint32(value: number): Buffer {
  return Buffer.from(Uint32Array.of(value).buffer);
}

function int32(value: number): Buffer {
  return Buffer.from(Int32Array.of(value).buffer);
}

function uint64(value: number): Buffer {
  return Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
}

function float32(value: number): Buffer {
  return Buffer.from(Float32Array.of(value).buffer);
}
