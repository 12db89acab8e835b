import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { type EncodedSource, type Entry, type EntryReason, EntryTableBuilder } from "../samples.ts";
import type { SampleCodec } from "./sample-codec.ts";

/*
 * The layout, all numbers little-endian:
 *
 *     8 bytes       "TSCHATOK"
 *     uint32        version
 *     uint32        0
 *     int32[]       the samples, one after the other
 *     uint32[n]     words of each entry's sample, 0 where there is none
 *     uint32[n]     tokens of each entry's whole record
 *     uint8[n]      status of each entry
 *     text          JSON of `Footer`
 *     uint32        bytes of that text
 *     uint32        CRC-32 of everything before
 *     8 bytes       "TSCHATOK"
 */
const magic = Buffer.from("TSCHATOK");
const VERSION = 1;
const HEADER_BYTES = 16;
const TRAILER_BYTES = 16;
const BLOCK_BYTES = 1 << 22;

interface Footer {
  readonly numEntries: number;
  readonly numLines: number;
  readonly reasons: readonly EntryReason[];
}

/** Closes the files of readers that are collected. */
const openFiles = new FinalizationRegistry<number>(closeSync);

/**
 * Writes entries into a token file as they come. It stands under `aside` until it is whole and on the disk, then it is renamed.
 *
 * @param fill adds the entries and gives the number of lines of the source
 */
export async function writeTokenFile<T>(
  path: string, aside: string, codec: SampleCodec<T>, fill: (add: (entry: Entry<T>) => Promise<void>) => Promise<number>,
): Promise<void> {
  const file = await open(aside, "w");
  try {
    const writer = new BlockWriter(file);
    const table = new EntryTableBuilder();
    const sizes: Uint32Array[] = [];
    let block = new Uint32Array(BLOCK_BYTES / 64), used = 0;
    await writer.write(Buffer.concat([magic, Buffer.from(Uint32Array.of(VERSION, 0).buffer)]));
    const numLines = await fill(async (entry) => {
      table.add(entry);
      const words = entry.sample === undefined ? undefined : codec.encode(entry.sample);
      if (used === block.length) {
        sizes.push(block);
        [block, used] = [new Uint32Array(block.length), 0];
      }
      block[used++] = words?.length ?? 0;
      if (words !== undefined) await writer.write(bytesOf(words));
    });
    const { status, lengths, reasons } = table.finish(numLines);
    for (const part of [...sizes, block.subarray(0, used), lengths, status]) await writer.write(bytesOf(part));
    const footer = Buffer.from(JSON.stringify({ numEntries: status.length, numLines, reasons } satisfies Footer));
    await writer.write(footer);
    await writer.write(bytesOf(Uint32Array.of(footer.length)));
    await writer.finish();
    await file.sync();
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  } finally {
    await file.close();
  }
  await rename(aside, path);
  const folder = await open(dirname(path));
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Writes small pieces in large blocks and keeps their checksum. */
class BlockWriter {
  readonly #file: FileHandle;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #checksum = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async write(bytes: Buffer): Promise<void> {
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes >= BLOCK_BYTES) await this.#flush();
  }

  /** Writes what is left, the checksum and the mark of the end. */
  async finish(): Promise<void> {
    await this.#flush();
    await this.#file.write(Buffer.concat([bytesOf(Uint32Array.of(this.#checksum)), magic]));
  }

  async #flush(): Promise<void> {
    const bytes = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#checksum = crc32(bytes, this.#checksum);
    for (let done = 0; done < bytes.length;) done += (await this.#file.write(bytes, done)).bytesWritten;
  }
}

/** What is wrong with a token file. */
export class DamagedTokenFile extends Error {}

/**
 * Opens a token file. Its index is in memory, 17 bytes an entry, and samples are read one by one when they are asked for. The file stays
 * open as long as the result is reachable.
 *
 * @throws {DamagedTokenFile} when its length or checksum is not what it should be
 */
export function openTokenFile<T>(path: string, codec: SampleCodec<T>): EncodedSource<T> {
  const file = openSync(path, "r");
  try {
    const { footer, index, dataEnd } = readIndex(file);
    const { numEntries, numLines, reasons } = footer;
    const offsets = new Float64Array(numEntries + 1);
    offsets[0] = HEADER_BYTES;
    for (let i = 0; i < numEntries; i++) offsets[i + 1] = offsets[i]! + 4 * index.sizes[i]!;
    if (offsets[numEntries] !== dataEnd) throw new DamagedTokenFile("its index does not fit its data");
    const source: EncodedSource<T> = {
      numLines, reasons, status: index.status, lengths: index.lengths,
      sampleAt(entry) {
        const begin = offsets[entry]!, words = new Int32Array((offsets[entry + 1]! - begin) / 4);
        if (!(words.length > 0)) throw new RangeError(`entry ${entry} of ${path} has no sample`);
        readFully(file, Buffer.from(words.buffer), begin);
        return codec.decode(words);
      },
    };
    openFiles.register(source, file);
    return source;
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

function readIndex(file: number) {
  const fileBytes = fstatSync(file).size;
  if (fileBytes < HEADER_BYTES + TRAILER_BYTES) throw new DamagedTokenFile(`it has only ${fileBytes} bytes`);
  const header = readFully(file, Buffer.alloc(HEADER_BYTES), 0);
  const trailer = readFully(file, Buffer.alloc(TRAILER_BYTES), fileBytes - TRAILER_BYTES);
  const isWhole = header.subarray(0, 8).equals(magic) && trailer.subarray(8).equals(magic);
  if (!isWhole) throw new DamagedTokenFile("it is cut short or overwritten");
  if (header.readUInt32LE(8) !== VERSION) throw new DamagedTokenFile(`it has version ${header.readUInt32LE(8)}`);
  if (checksumOf(file, fileBytes - TRAILER_BYTES + 4) !== trailer.readUInt32LE(4)) throw new DamagedTokenFile("its checksum is wrong");
  const footerBytes = trailer.readUInt32LE(0), footerStart = fileBytes - TRAILER_BYTES - footerBytes;
  const footer = JSON.parse(readFully(file, Buffer.alloc(footerBytes), footerStart).toString()) as Footer;
  const { numEntries } = footer;
  const dataEnd = footerStart - 9 * numEntries;
  const sizes = new Uint32Array(numEntries), lengths = new Uint32Array(numEntries), status = new Uint8Array(numEntries);
  readFully(file, bytesOf(sizes), dataEnd);
  readFully(file, bytesOf(lengths), dataEnd + 4 * numEntries);
  readFully(file, bytesOf(status), dataEnd + 8 * numEntries);
  return { footer, index: { sizes, lengths, status }, dataEnd };
}

function checksumOf(file: number, end: number): number {
  const block = Buffer.alloc(Math.min(BLOCK_BYTES, end));
  let checksum = 0;
  for (let position = 0; position < end; position += block.length) {
    checksum = crc32(readFully(file, block.subarray(0, Math.min(block.length, end - position)), position), checksum);
  }
  return checksum;
}

/** Fills `buffer` from `position` on. */
function readFully(file: number, buffer: Buffer, position: number): Buffer {
  for (let done = 0; done < buffer.length;) {
    const count = readSync(file, buffer, done, buffer.length - done, position + done);
    if (count === 0) throw new DamagedTokenFile("it ends early");
    done += count;
  }
  return buffer;
}

function bytesOf({ buffer, byteOffset, byteLength }: Int32Array | Uint32Array | Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
