import { readFileSync, writeFileSync } from "node:fs";

/** A tensor on plain numbers, in row-major order. */
export interface PlainTensor {
  shape: readonly number[];
  data: readonly number[];
}

/** Element types that tests read and write. */
export type StoredDType = "F32" | "BF16" | "F16" | "I64";

/** All tensors of a safetensors file by name, read without the project's own reader. */
export function readTensors(path: string): Map<string, PlainTensor & { dtype: StoredDType }> {
  const bytes = readFileSync(path);
  const dataStart = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, dataStart)) as Record<
    string,
    { dtype: StoredDType; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, PlainTensor & { dtype: StoredDType }>();
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = data_offsets;
    tensors.set(name, { dtype, shape, data: decode(dtype, new Uint8Array(bytes.subarray(dataStart + from, dataStart + to)).buffer) });
  }
  return tensors;
}

/** Writes a safetensors file with all tensors in `dtype`. */
export function writeTensors(
  path: string,
  tensors: ReadonlyMap<string, PlainTensor>,
  dtype: Exclude<StoredDType, "I64" | "F16"> = "F32",
): void {
  const header: Record<string, unknown> = {};
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, { shape, data }] of tensors) {
    const bytes = new Uint8Array(dtype === "F32" ? Float32Array.from(data).buffer : toBfloat16(data).buffer);
    header[name] = { dtype, shape, data_offsets: [end, end + bytes.length] };
    end += bytes.length;
    parts.push(bytes);
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([length, text, ...parts]));
}

function decode(dtype: StoredDType, buffer: ArrayBuffer): number[] {
  switch (dtype) {
    case "F32":
      return Array.from(new Float32Array(buffer));
    case "I64":
      return Array.from(new BigInt64Array(buffer), Number);
    case "BF16":
      return Array.from(new Float32Array(Uint32Array.from(new Uint16Array(buffer), (bits) => bits << 16).buffer));
    case "F16":
      return Array.from(new Uint16Array(buffer), fromFloat16);
  }
}

/** IEEE 754 half precision; infinities and NaN do not occur in the files of tests. */
function fromFloat16(bits: number): number {
  const sign = bits >>> 15 ? -1 : 1,
    exponent = (bits >>> 10) & 31,
    fraction = bits & 1023;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
}

/** The upper half of a float32, rounded to nearest, ties to even. */
function toBfloat16(data: readonly number[]): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(Float32Array.from(data).buffer);
  return Uint16Array.from(bits, (word) => (word + 0x7fff + ((word >>> 16) & 1)) >>> 16);
}
