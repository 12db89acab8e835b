import { closeSync, openSync, writeSync } from "node:fs";
import type { GgufValue } from "./metadata.ts";

/** A tensor to be written: its size is known beforehand, its bytes are asked for piece by piece when its turn comes. */
export interface GgufTensorToWrite {
  name: string;
  /** The file's order, the fastest dimension first. */
  shape: readonly number[];
  /** GGML's number of its type. */
  type: number;
  byteLength: number;
  bytes(): Iterable<Uint8Array>;
}

/** llama.cpp wants the data of a tensor at multiples of it. */
const ALIGNMENT = 32;

/** GGUF's numbers of the types of values. */
const UINT32 = 4, INT32 = 5, FLOAT32 = 6, BOOL = 7, TEXT = 8, LIST = 9;

/** Writes a GGUF file, version 3; a tensor is in memory only while it is written. */
export function writeGguf(path: string, metadata: ReadonlyMap<string, GgufValue>, tensors: readonly GgufTensorToWrite[]): void {
  const header = [Buffer.from("GGUF"), uint32(3), uint64(tensors.length), uint64(metadata.size)];
  for (const [key, value] of metadata) header.push(text(key), typed(value));
  let offset = 0;
  for (const { name, shape, type, byteLength } of tensors) {
    header.push(text(name), uint32(shape.length), ...shape.map(uint64), uint32(type), uint64(offset));
    offset += byteLength + padding(byteLength);
  }
  const file = openSync(path, "w");
  try {
    const start = Buffer.concat(header);
    writeAll(file, start);
    writeAll(file, Buffer.alloc(padding(start.length)));
    for (const tensor of tensors) {
      let written = 0;
      for (const bytes of tensor.bytes()) {
        writeAll(file, bytes);
        written += bytes.length;
      }
      if (written !== tensor.byteLength) throw new Error(`internal: ${tensor.name} has ${written} bytes, not ${tensor.byteLength}`);
      writeAll(file, Buffer.alloc(padding(written)));
    }
  } finally {
    closeSync(file);
  }
}

function padding(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
}

/** One write call may take less than all of a large buffer. */
function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
}

function typed(value: GgufValue): Buffer {
  if (typeof value === "string") return Buffer.concat([uint32(TEXT), text(value)]);
  if (typeof value === "boolean") return Buffer.concat([uint32(BOOL), Buffer.from([value ? 1 : 0])]);
  if (typeof value === "number") return Buffer.concat([uint32(UINT32), uint32(value)]);
  if (value instanceof Float32Array) return list(FLOAT32, value.length, [bytesOf(value)]);
  if (value instanceof Int32Array) return list(INT32, value.length, [bytesOf(value)]);
  if ("float32" in value) return Buffer.concat([uint32(FLOAT32), bytesOf(Float32Array.of(value.float32))]);
  return list(TEXT, value.length, value.map(text));
}

function list(type: number, length: number, entries: readonly Buffer[]): Buffer {
  return Buffer.concat([uint32(LIST), uint32(type), uint64(length), ...entries]);
}

function bytesOf(values: Float32Array | Int32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}
