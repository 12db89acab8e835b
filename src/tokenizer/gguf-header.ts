import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { CheckpointError } from "../errors.ts";

/** A value of a GGUF file's metadata. 64-bit integers are plain numbers; lists of float32 and int32 are typed arrays. */
export type GgufMetadataValue = string | number | boolean | Float32Array | Int32Array | readonly GgufMetadataValue[];

/** A tensor as the header lists it. */
export interface GgufTensorInfo {
  name: string;
  /** Sizes in the file's order, the fastest first. */
  shape: number[];
  /** GGML's number of its type. */
  type: number;
  /** Bytes from the start of the data. */
  offset: number;
}

/** What stands before the data of a GGUF file. */
export interface GgufHeader {
  metadata: Readonly<Record<string, GgufMetadataValue>>;
  tensors: readonly GgufTensorInfo[];
  /** Byte of the file at which the data starts. */
  dataStart: number;
  alignment: number;
  /** Bytes of the file. */
  size: number;
}

/**
 * Reads the header of a GGUF file, versions 2 and 3. The npm package that parses it loses a byte-order mark at the start of a token, which
 * some vocabularies have (Gemma's), so it is read here.
 *
 * @throws {CheckpointError} for a file that is missing, truncated, damaged, big-endian or no GGUF file
 */
export function readGgufHeader(path: string): GgufHeader {
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    return parse(new Cursor(file, fstatSync(file).size));
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read as a GGUF file: ${(cause as Error).message}`, { cause });
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** "GGUF" as a little-endian number. */
const MAGIC = 0x46554747;

/** Bytes that are read at once. */
const CHUNK = 2 ** 22;

/** Reads values one after the other; the file is read as far as they reach. */
class Cursor {
  readonly size: number;
  position = 0;
  readonly #file: number;
  #bytes = Buffer.alloc(0);

  constructor(file: number, size: number) {
    this.#file = file;
    this.size = size;
  }

  /** Where the next `count` bytes lie in `#bytes`. Checked against the file's size first: a damaged count must not allocate. */
  #take(count: number): number {
    const at = this.position, end = at + count;
    if (end > this.size) throw new Error(`truncated: the header needs ${end} bytes or more, the file has ${this.size}`);
    if (end > this.#bytes.length) {
      const grown = Buffer.alloc(Math.min(this.size, Math.max(end, 2 * this.#bytes.length, CHUNK)));
      this.#bytes.copy(grown);
      for (let done = this.#bytes.length; done < grown.length; ) {
        const read = readSync(this.#file, grown, done, grown.length - done, done);
        if (read === 0) throw new Error(`truncated: it ended at byte ${done} while it was read`);
        done += read;
      }
      this.#bytes = grown;
    }
    this.position = end;
    return at;
  }

  uint8(): number { const at = this.#take(1); return this.#bytes.readUInt8(at); }
  int8(): number { const at = this.#take(1); return this.#bytes.readInt8(at); }
  uint16(): number { const at = this.#take(2); return this.#bytes.readUInt16LE(at); }
  int16(): number { const at = this.#take(2); return this.#bytes.readInt16LE(at); }
  uint32(): number { const at = this.#take(4); return this.#bytes.readUInt32LE(at); }
  int32(): number { const at = this.#take(4); return this.#bytes.readInt32LE(at); }
  float32(): number { const at = this.#take(4); return this.#bytes.readFloatLE(at); }
  float64(): number { const at = this.#take(8); return this.#bytes.readDoubleLE(at); }
  uint64(): number { const at = this.#take(8); return safe(this.#bytes.readBigUInt64LE(at)); }
  /** A 64-bit value of the metadata, which is no size; beyond 2^53 it is the nearest double. */
  wide(isSigned: boolean): number {
    const at = this.#take(8);
    return Number(isSigned ? this.#bytes.readBigInt64LE(at) : this.#bytes.readBigUInt64LE(at));
  }

  text(): string {
    const length = this.count(1, "bytes of a text");
    const at = this.#take(length);
    return this.#bytes.toString("utf8", at, at + length);
  }

  /** A copy of the next bytes. */
  copy(length: number): ArrayBuffer {
    const at = this.#take(length);
    return new Uint8Array(this.#bytes.subarray(at, at + length)).buffer;
  }

  /** A number of things of at least `least` bytes each, which must have room in the file. */
  count(least: number, things: string): number {
    const count = this.uint64();
    if (count * least <= this.size - this.position) return count;
    throw new Error(`damaged or truncated: it claims ${count} ${things}, ${this.size - this.position} bytes of it are left`);
  }
}

/** Sizes and counts beyond 2^53 are damage. */
function safe(value: bigint): number {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  throw new Error(`damaged: the number ${value} is beyond every size`);
}

function parse(cursor: Cursor): GgufHeader {
  if (cursor.size >= 4 && cursor.uint32() !== MAGIC) {
    throw new Error('not a valid GGUF file: it does not start with the magic number "GGUF"');
  }
  if (cursor.size < 24) throw new Error(`not a valid GGUF file: it has ${cursor.size} bytes`);
  const version = cursor.uint32();
  if (version === 0x02000000 || version === 0x03000000) throw new Error("big-endian files are not supported");
  if (version !== 2 && version !== 3) throw new Error(`version ${version} is not supported, expected 2 or 3`);
  const numTensors = cursor.count(24, "tensors"), numValues = cursor.count(13, "metadata values");
  const metadata: Record<string, GgufMetadataValue> = {};
  for (let i = 0; i < numValues; i++) metadata[cursor.text()] = readValue(cursor, cursor.uint32());
  const tensors = Array.from({ length: numTensors }, (): GgufTensorInfo => {
    const name = cursor.text(), dimensions = cursor.uint32();
    if (dimensions > 4) throw new Error(`damaged: tensor ${JSON.stringify(name)} has ${dimensions} dimensions`);
    const shape = Array.from({ length: dimensions }, () => cursor.uint64());
    return { name, shape, type: cursor.uint32(), offset: cursor.uint64() };
  });
  const alignment = metadata["general.alignment"] ?? 32;
  if (typeof alignment !== "number" || alignment < 1 || !Number.isInteger(Math.log2(alignment))) {
    throw new Error(`damaged: general.alignment is ${JSON.stringify(alignment)}, expected a power of two`);
  }
  return { metadata, tensors, dataStart: Math.ceil(cursor.position / alignment) * alignment, alignment, size: cursor.size };
}

const FLOAT32 = 6, INT32 = 5, TEXT = 8, LIST = 9;

/** Smallest size of a value of each type, in bytes. */
const LEAST_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];

function readValue(cursor: Cursor, type: number): GgufMetadataValue {
  switch (type) {
    case 0: return cursor.uint8();
    case 1: return cursor.int8();
    case 2: return cursor.uint16();
    case 3: return cursor.int16();
    case 4: return cursor.uint32();
    case INT32: return cursor.int32();
    case FLOAT32: return cursor.float32();
    case 7: return cursor.uint8() !== 0;
    case TEXT: return cursor.text();
    case LIST: return readList(cursor, cursor.uint32());
    case 10: return cursor.wide(false);
    case 11: return cursor.wide(true);
    case 12: return cursor.float64();
    default: throw new Error(`damaged: a metadata value is of type ${type}, expected 0 to 12`);
  }
}

function readList(cursor: Cursor, type: number): GgufMetadataValue {
  const least = LEAST_BYTES[type];
  if (least === undefined || type === LIST) throw new Error(`damaged: a list has entries of type ${type}`);
  const length = cursor.count(least, "entries of a list");
  if (type === FLOAT32) return new Float32Array(cursor.copy(4 * length));
  if (type === INT32) return new Int32Array(cursor.copy(4 * length));
  return Array.from({ length }, () => readValue(cursor, type));
}
