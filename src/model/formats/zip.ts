import { CheckpointError } from "../../errors.ts";
import type { FileParts } from "../../tensor/file-parts.ts";

/** Where the content of a file in an archive lies, in bytes of the archive. */
export interface ZipEntry {
  readonly start: number;
  readonly size: number;
}

const END = 0x06054b50, END_64 = 0x06064b50, END_64_LOCATOR = 0x07064b50, CENTRAL = 0x02014b50, LOCAL = 0x04034b50;
const END_BYTES = 22, LOCATOR_BYTES = 20, END_64_BYTES = 56, CENTRAL_BYTES = 46, LOCAL_BYTES = 30;
/** A longer directory is damage: 100,000 storages take less than 10 MB. */
const MAX_DIRECTORY_BYTES = 2 ** 26;
/** What a 32-bit field says when the true value is in the zip64 record. */
const IN_ZIP64 = 0xffffffff;

/** Whether a file begins as a zip archive. */
export function isZip(start: Buffer): boolean {
  return start.length >= 4 && start.readUInt32LE(0) === LOCAL;
}

/**
 * The directory of a zip archive (PKWARE's APPNOTE 6.3), zip64 included, whose files are stored uncompressed, as torch.save does.
 * Nothing is extracted; a name is only a key here.
 *
 * @throws {CheckpointError} when it is truncated or malformed, or a file in it is compressed, encrypted or there twice
 */
export function readZip(file: FileParts): ReadonlyMap<string, ZipEntry> {
  const { path } = file;
  const { count, start, size } = findDirectory(file);
  if (size > MAX_DIRECTORY_BYTES) throw new CheckpointError(`${path}: the zip directory claims ${size} bytes; the file is damaged`);
  const directory = file.at(start, size);
  const entries = new Map<string, ZipEntry>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    const nameEnd = at + CENTRAL_BYTES + (at + CENTRAL_BYTES <= size ? directory.readUInt16LE(at + 28) : 0);
    if (nameEnd > size || directory.readUInt32LE(at) !== CENTRAL) {
      throw new CheckpointError(`${path}: entry ${i} of the zip directory is malformed; download it again`);
    }
    const name = directory.toString("utf8", at + CENTRAL_BYTES, nameEnd);
    const next = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
    if (directory.readUInt16LE(at + 10) !== 0 || (directory.readUInt16LE(at + 8) & 1) !== 0) {
      throw new CheckpointError(
        `${path}: "${name}" in it is compressed or encrypted; torch.save stores tensors as they are: save it again`,
      );
    }
    if (entries.has(name)) throw new CheckpointError(`${path}: has "${name}" twice; the file is damaged`);
    entries.set(name, locate(file, name, directory.subarray(at, at + CENTRAL_BYTES), directory.subarray(nameEnd, next)));
    at = next;
  }
  return entries;
}

/** Where the directory lies: from the record at the end of the file, which a comment may follow, or from its zip64 companion. */
function findDirectory(file: FileParts): { count: number; start: number; size: number } {
  const tailStart = Math.max(0, file.size - END_BYTES - 0xffff);
  const tail = file.at(tailStart, file.size - tailStart);
  for (let at = tail.length - END_BYTES; at >= 0; at--) {
    if (tail.readUInt32LE(at) !== END || at + END_BYTES + tail.readUInt16LE(at + 20) !== tail.length) continue;
    const locatorAt = tailStart + at - LOCATOR_BYTES;
    const locator = locatorAt < 0 ? undefined : file.at(locatorAt, LOCATOR_BYTES);
    if (locator?.readUInt32LE(0) === END_64_LOCATOR) return readEnd64(file, toNumber(file, locator.readBigUInt64LE(8)));
    return { count: tail.readUInt16LE(at + 10), size: tail.readUInt32LE(at + 12), start: tail.readUInt32LE(at + 16) };
  }
  throw new CheckpointError(`${file.path}: truncated: the directory at the end of the zip archive is missing; download it again`);
}

function readEnd64(file: FileParts, offset: number): { count: number; start: number; size: number } {
  const record = file.at(offset, END_64_BYTES);
  if (record.readUInt32LE(0) !== END_64) throw new CheckpointError(`${file.path}: the zip64 record is malformed; download it again`);
  const [count, size, start] = [32, 40, 48].map((at) => toNumber(file, record.readBigUInt64LE(at))) as [number, number, number];
  return { count, size, start };
}

/** An offset or size; everything that is larger than the file is damage. */
function toNumber(file: FileParts, value: bigint): number {
  if (value <= BigInt(file.size)) return Number(value);
  throw new CheckpointError(
    `${file.path}: truncated: the zip archive points to byte ${value}, the file has ${file.size}; download it again`,
  );
}

function locate(file: FileParts, name: string, central: Buffer, extra: Buffer): ZipEntry {
  const wide = zip64Values(extra);
  const value = (at: number): number => {
    const short = central.readUInt32LE(at);
    return short === IN_ZIP64 ? toNumber(file, wide.shift() ?? BigInt(short)) : short;
  };
  const [size, stored, header] = [value(24), value(20), value(42)]; // in the order of the zip64 record
  const local = file.at(header, LOCAL_BYTES);
  if (size !== stored || local.readUInt32LE(0) !== LOCAL) {
    throw new CheckpointError(`${file.path}: "${name}" in it is malformed; download it again`);
  }
  const start = header + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28);
  if (start + size > file.size) {
    throw new CheckpointError(
      `${file.path}: truncated: "${name}" in it ends at byte ${start + size}, the file has ${file.size}; download it again`,
    );
  }
  return { start, size };
}

/** The 64-bit values of the zip64 extra field (id 1), which has those that did not fit, in a fixed order. */
function zip64Values(extra: Buffer): bigint[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const end = Math.min(at + 4 + extra.readUInt16LE(at + 2), extra.length);
    const values: bigint[] = [];
    for (let value = at + 4; value + 8 <= end; value += 8) values.push(extra.readBigUInt64LE(value));
    return values;
  }
  return [];
}
