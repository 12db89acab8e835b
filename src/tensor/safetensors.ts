import { closeSync, openSync, writeSync } from "node:fs";
import { CheckpointError } from "../errors.ts";
import type { DType } from "../native/binding.ts";
import { mapFile } from "./create.ts";
import { type FileParts, readParts } from "./file-parts.ts";
import type { Tensor } from "./tensor.ts";
import { elementBytes, mappedElements, type WeightFile } from "./weight-file.ts";

const dtypes: Readonly<Record<string, DType>> = {
  F32: "float32", BF16: "bfloat16", F16: "float16", F64: "float64",
  I64: "int64", I32: "int32", I16: "int16", I8: "int8", U8: "uint8", BOOL: "bool",
};
const tags = Object.fromEntries(Object.entries(dtypes).map(([tag, dtype]) => [dtype, tag])) as Readonly<Record<DType, string>>;

/** A header larger than this is damage, not a model: the largest published ones have a few MB. */
const MAX_HEADER_BYTES = 100_000_000;

interface Entry {
  dtype: DType;
  shape: number[];
  start: number;
  end: number;
}

/** A `.safetensors` file, memory-mapped: opening reads the header only, and a tensor's bytes are read when it is used. */
export class SafetensorsFile implements WeightFile {
  readonly path: string;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #bytes: Tensor;

  /** @throws {CheckpointError} when the file is missing, truncated or malformed, with the tensor it concerns */
  constructor(path: string) {
    this.path = path;
    const { entries, size } = readParts(path, readHeader);
    this.#entries = entries;
    this.#bytes = mapFile(path, size);
  }

  names(): string[] { return [...this.#entries.keys()]; }
  shape(name: string): number[] { return this.#entry(name).shape; }
  dtype(name: string): DType { return this.#entry(name).dtype; }

  /** The tensor in its own dtype, a view of the mapped file that must not be written to. */
  read(name: string): Tensor {
    const { dtype, shape, start, end } = this.#entry(name);
    return mappedElements(this.#bytes, start, end, dtype).reshape(shape);
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (!entry) throw new CheckpointError(`${this.path}: no tensor "${name}"`);
    return entry;
  }
}

function readHeader(file: FileParts): { entries: Map<string, Entry>; size: number } {
  const { path, size } = file;
  if (size < 8) throw new CheckpointError(`${path}: ${size} bytes are too few for a safetensors file; download it again`);
  const headerBytes = Number(file.at(0, 8).readBigUInt64LE(0));
  if (headerBytes > MAX_HEADER_BYTES || 8 + headerBytes > size) {
    throw new CheckpointError(
      `${path}: the header claims ${headerBytes} bytes, the file has ${size}: it is truncated or no safetensors file; download it again`,
    );
  }
  const entries = new Map<string, Entry>();
  for (const [name, value] of Object.entries(parseHeader(path, file.at(8, headerBytes).toString("utf8")))) {
    if (name !== "__metadata__") entries.set(name, readEntry(path, name, value, 8 + headerBytes));
  }
  checkLayout(path, entries, 8 + headerBytes, size);
  return { entries, size };
}

function parseHeader(path: string, text: string): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw new CheckpointError(`${path}: the header is no JSON; the file is damaged or no safetensors file`, { cause });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) {
    throw new CheckpointError(`${path}: the header is no JSON object; the file is damaged or no safetensors file`);
  }
  // JSON.parse takes the last of two equal names; other programs may take the first, so they would see another model.
  if (countKeys(text) !== Object.keys(header).length) {
    throw new CheckpointError(`${path}: the header has a name twice, which the format forbids`);
  }
  return header as Record<string, unknown>;
}

/** Number of the keys of a JSON object, equal ones counted apart: colons outside of strings and of anything nested. */
function countKeys(json: string): number {
  let depth = 0, keys = 0;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === "{" || token === "[") depth++;
    else if (token === "}" || token === "]") depth--;
    else if (token === ":" && depth === 1) keys++;
  }
  return keys;
}

function readEntry(path: string, name: string, value: unknown, dataStart: number): Entry {
  const { dtype: tag, shape, data_offsets: offsets } = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const dtype = typeof tag === "string" && Object.hasOwn(dtypes, tag) ? dtypes[tag] : undefined;
  if (!dtype) {
    const remedy = typeof tag === "string" && /^F[468]_/.test(tag) ? ": choose the model's version in BF16 or F16" : "";
    throw new CheckpointError(
      `${path}: "${name}" has dtype ${JSON.stringify(tag)}, expected one of ${Object.keys(dtypes).join(", ")}${remedy}`,
    );
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
  return { dtype, shape, start: dataStart + from, end: dataStart + to };
}

/** The format wants the tensors one behind the other and nothing else, so that no byte has two meanings or none. */
function checkLayout(path: string, entries: ReadonlyMap<string, Entry>, dataStart: number, size: number): void {
  let end = dataStart, last = "the header";
  for (const [name, entry] of [...entries].sort(([, a], [, b]) => a.start - b.start || a.end - b.end)) {
    if (entry.end > size) {
      throw new CheckpointError(`${path}: truncated: "${name}" ends at byte ${entry.end}, the file has ${size}; download it again`);
    }
    if (entry.start !== end) {
      const found = entry.start < end ? "overlaps" : "leaves a gap behind";
      throw new CheckpointError(`${path}: "${name}" ${found} ${last}, which the format forbids; the file is damaged`);
    }
    end = entry.end;
    last = `"${name}"`;
  }
  if (end === size) return;
  throw new CheckpointError(`${path}: ${size - end} bytes follow the last tensor, which the format forbids; download it again`);
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
