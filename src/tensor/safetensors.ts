import { closeSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { CheckpointError } from "../errors.ts";
import type { DType } from "../native/binding.ts";
import { mapFile } from "./create.ts";
import type { Tensor } from "./tensor.ts";

const dtypes: Readonly<Record<string, DType>> = {
  F32: "float32", BF16: "bfloat16", F16: "float16", F64: "float64",
  I64: "int64", I32: "int32", I16: "int16", I8: "int8", U8: "uint8", BOOL: "bool",
};
const tags = Object.fromEntries(Object.entries(dtypes).map(([tag, dtype]) => [dtype, tag])) as Readonly<Record<DType, string>>;
const elementBytes: Readonly<Record<DType, number>> = {
  float32: 4, bfloat16: 2, float16: 2, float64: 8, int64: 8, int32: 4, int16: 2, int8: 1, uint8: 1, bool: 1,
};

/** A header larger than this is damage, not a model: the largest published ones have a few MB. */
const MAX_HEADER_BYTES = 100_000_000;

interface Entry {
  dtype: DType;
  shape: number[];
  start: number;
  end: number;
}

/** A `.safetensors` file, memory-mapped: opening reads the header only, and a tensor's bytes are read when it is used. */
export class SafetensorsFile {
  readonly path: string;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #bytes: Tensor;

  /** @throws {CheckpointError} when the file is missing, truncated or malformed, with the tensor it concerns */
  constructor(path: string) {
    this.path = path;
    const { entries, size } = readHeader(path);
    this.#entries = entries;
    this.#bytes = mapFile(path, size);
  }

  names(): string[] { return [...this.#entries.keys()]; }
  shape(name: string): number[] { return this.#entry(name).shape; }
  dtype(name: string): DType { return this.#entry(name).dtype; }

  /** The tensor in its own dtype, a view of the mapped file that must not be written to. */
  read(name: string): Tensor {
    const { dtype, shape, start, end } = this.#entry(name);
    const bytes = this.#bytes.slice(0, start, end);
    // A view of wider elements must start at a multiple of their size; the format does not promise it, so an odd one is copied.
    const aligned = start % elementBytes[dtype] === 0 ? bytes : bytes.clone();
    return aligned.viewAs(dtype).reshape(shape);
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new CheckpointError(`${this.path}: no tensor "${name}"`);
    return entry;
  }
}

function readHeader(path: string): { entries: Map<string, Entry>; size: number } {
  const size = fileSize(path);
  const descriptor = openSync(path, "r");
  try {
    const length = Buffer.alloc(8);
    if (size < 8 || readSync(descriptor, length, 0, 8, 0) < 8) {
      throw new CheckpointError(`${path}: ${size} bytes are too few for a safetensors file; download it again`);
    }
    const headerBytes = Number(length.readBigUInt64LE(0));
    if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) {
      throw new CheckpointError(
        `${path}: the header claims ${headerBytes} bytes, the file has ${size}: it is truncated or no safetensors file; ` +
          "download it again",
      );
    }
    const text = Buffer.alloc(headerBytes);
    readSync(descriptor, text, 0, headerBytes, 8);
    return { entries: parseHeader(path, text.toString("utf8"), 8 + headerBytes, size), size };
  } finally {
    closeSync(descriptor);
  }
}

function fileSize(path: string): number {
  try {
    return statSync(path).size;
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function parseHeader(path: string, text: string, dataStart: number, size: number): Map<string, Entry> {
  let header: Record<string, { dtype?: unknown; shape?: unknown; data_offsets?: unknown }>;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`${path}: the header is no JSON; the file is damaged or no safetensors file`, { cause });
  }
  const entries = new Map<string, Entry>();
  for (const [name, { dtype: tag, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const dtype = typeof tag === "string" && Object.hasOwn(dtypes, tag) ? dtypes[tag] : undefined;
    if (!dtype) {
      const known = Object.keys(dtypes).join(", ");
      throw new CheckpointError(`${path}: "${name}" has dtype ${JSON.stringify(tag)}, expected one of ${known}`);
    }
    if (!isCounts(shape) || !isCounts(offsets) || offsets.length !== 2) {
      throw new CheckpointError(`${path}: "${name}" has a malformed shape or offsets`);
    }
    const [from, to] = offsets as [number, number];
    const expected = shape.reduce((product, n) => product * n, elementBytes[dtype]);
    if (to - from !== expected) {
      throw new CheckpointError(
        `${path}: "${name}" is ${tag}[${shape.join(", ")}] and needs ${expected} bytes, the header gives it ${to - from}`,
      );
    }
    if (dataStart + to > size) {
      throw new CheckpointError(`${path}: truncated: "${name}" ends at byte ${dataStart + to}, the file has ${size}; download it again`);
    }
    entries.set(name, { dtype, shape, start: dataStart + from, end: dataStart + to });
  }
  return entries;
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** A tensor to be written: its shape is known beforehand, its content is asked for when its turn comes. */
export interface TensorToWrite {
  name: string;
  shape: readonly number[];
  read(): Tensor;
}

/** Writes a `.safetensors` file with all tensors in `dtype`, one after the other, so that only one is in memory twice. */
export function writeSafetensors(path: string, tensors: readonly TensorToWrite[], dtype: DType): void {
  let end = 0;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const { name, shape } of tensors) {
    const start = end;
    end += shape.reduce((product, n) => product * n, elementBytes[dtype]);
    header[name] = { dtype: tags[dtype], shape, data_offsets: [start, end] };
  }
  let text = JSON.stringify(header);
  // The format pads the header with spaces so that the data starts at a multiple of 8.
  text = text.padEnd(text.length + ((8 - (Buffer.byteLength(text) % 8)) % 8), " ");
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
  const descriptor = openSync(path, "w");
  try {
    writeAll(descriptor, length);
    writeAll(descriptor, Buffer.from(text));
    for (const tensor of tensors) writeAll(descriptor, tensor.read().to(dtype).bytes());
  } finally {
    closeSync(descriptor);
  }
}

/** One write call may take less than all of a large buffer. */
function writeAll(descriptor: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
}
