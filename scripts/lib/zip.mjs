import { createWriteStream } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";
import { SetupError } from "./setup-error.mjs";

// APPNOTE.TXT of PKWARE, sections 4.3 and 4.5.3, as far as wheels use it: stored and deflated entries, zip64, one volume, no encryption.
const END = 0x06054b50;
const END_SIZE = 22;
const END64 = 0x06064b50;
const END64_LOCATOR = 0x07064b50;
const END64_LOCATOR_SIZE = 20;
const CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const LOCAL_SIZE = 30;
const MAX_COMMENT = 0xffff;
const IN_ZIP64 = 0xffffffff;
const STORED = 0;
const DEFLATED = 8;
const CHUNK_BYTES = 1 << 20;

/**
 * @typedef {object} ZipEntry
 * @property {string} name
 * @property {number} method
 * @property {number} crc32
 * @property {number} compressedSize bytes
 * @property {number} size bytes
 * @property {number} offset of the local header
 */

/**
 * Unpacks those entries of a zip archive for which `select` gives a path.
 *
 * @param {string} archive
 * @param {(name: string) => string | undefined} select from an entry's name to the file to write
 * @param {(bytes: number) => void} [onBytes] gets the size of each piece written
 * @returns {Promise<number>} the number of files written
 * @throws {SetupError} when the archive is damaged
 */
export async function unzip(archive, select, onBytes = () => undefined) {
  const file = await open(archive);
  let count = 0;
  try {
    for (const entry of await readDirectory(file, archive)) {
      const target = entry.name.endsWith("/") ? undefined : select(entry.name);
      if (target === undefined) continue;
      await mkdir(dirname(target), { recursive: true });
      await extract(file, archive, entry, target, onBytes);
      count++;
    }
  } finally {
    await file.close();
  }
  return count;
}

/**
 * @param {import("node:fs/promises").FileHandle} file
 * @param {string} archive
 * @returns {Promise<ZipEntry[]>}
 */
async function readDirectory(file, archive) {
  const { count, start, size } = await findDirectory(file, archive);
  const bytes = await readExactly(file, archive, start, size);
  /** @type {ZipEntry[]} */
  const entries = [];
  for (let at = 0; entries.length < count; ) {
    if (at + 46 > bytes.length || bytes.readUInt32LE(at) !== CENTRAL) throw damaged(archive, "its directory is cut short");
    const nameLength = bytes.readUInt16LE(at + 28);
    const extraLength = bytes.readUInt16LE(at + 30);
    const nameEnd = at + 46 + nameLength;
    const entry = {
      name: bytes.toString("utf8", at + 46, nameEnd),
      method: bytes.readUInt16LE(at + 10),
      crc32: bytes.readUInt32LE(at + 16),
      compressedSize: bytes.readUInt32LE(at + 20),
      size: bytes.readUInt32LE(at + 24),
      offset: bytes.readUInt32LE(at + 42),
    };
    if (bytes.readUInt16LE(at + 8) & 1) throw damaged(archive, `${entry.name} is encrypted`);
    if (entry.name.startsWith("/") || entry.name.split(/[/\\]/).includes("..")) throw damaged(archive, `${entry.name} leaves its folder`);
    readZip64(entry, bytes.subarray(nameEnd, nameEnd + extraLength));
    entries.push(entry);
    at = nameEnd + extraLength + bytes.readUInt16LE(at + 32);
  }
  return entries;
}

/**
 * @param {import("node:fs/promises").FileHandle} file
 * @param {string} archive
 */
async function findDirectory(file, archive) {
  const { size: fileSize } = await file.stat();
  const tailStart = Math.max(0, fileSize - END_SIZE - MAX_COMMENT);
  const tail = await readExactly(file, archive, tailStart, fileSize - tailStart);
  let end = tail.length - END_SIZE;
  while (end >= 0 && tail.readUInt32LE(end) !== END) end--;
  if (end < 0) throw damaged(archive, "it has no end record");

  const locator = end - END64_LOCATOR_SIZE;
  if (locator >= 0 && tail.readUInt32LE(locator) === END64_LOCATOR) {
    const end64 = await readExactly(file, archive, Number(tail.readBigUInt64LE(locator + 8)), 56);
    if (end64.readUInt32LE(0) !== END64) throw damaged(archive, "its zip64 end record is missing");
    const [count, size, start] = [32, 40, 48].map((at) => Number(end64.readBigUInt64LE(at)));
    return { count: /** @type {number} */ (count), size: /** @type {number} */ (size), start: /** @type {number} */ (start) };
  }
  return { count: tail.readUInt16LE(end + 10), size: tail.readUInt32LE(end + 12), start: tail.readUInt32LE(end + 16) };
}

/**
 * Fills in what did not fit into 32 bits. The extra field holds only those values, in this order.
 *
 * @param {ZipEntry} entry
 * @param {Buffer} extra
 */
function readZip64(entry, extra) {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    let value = at + 4;
    for (const key of /** @type {const} */ (["size", "compressedSize", "offset"])) {
      if (entry[key] !== IN_ZIP64) continue;
      entry[key] = Number(extra.readBigUInt64LE(value));
      value += 8;
    }
  }
}

/**
 * @param {import("node:fs/promises").FileHandle} file
 * @param {string} archive
 * @param {ZipEntry} entry
 * @param {string} target
 * @param {(bytes: number) => void} onBytes
 */
async function extract(file, archive, entry, target, onBytes) {
  const local = await readExactly(file, archive, entry.offset, LOCAL_SIZE);
  if (local.readUInt32LE(0) !== LOCAL) throw damaged(archive, `${entry.name} is not where the directory says`);
  const start = entry.offset + LOCAL_SIZE + local.readUInt16LE(26) + local.readUInt16LE(28);
  if (entry.method !== STORED && entry.method !== DEFLATED) throw damaged(archive, `${entry.name} has compression method ${entry.method}`);

  let size = 0;
  let checksum = 0;
  const check = new Transform({
    transform(chunk, _encoding, done) {
      size += chunk.length;
      checksum = crc32(chunk, checksum);
      onBytes(chunk.length);
      done(null, chunk);
    },
  });
  const source = Readable.from(chunks(file, archive, start, entry.compressedSize), { objectMode: false });
  const output = createWriteStream(target);
  try {
    if (entry.method === DEFLATED) await pipeline(source, createInflateRaw({ chunkSize: CHUNK_BYTES }), check, output);
    else await pipeline(source, check, output);
  } catch (cause) {
    const isDeflateError = cause instanceof Error && "code" in cause && String(cause.code).startsWith("Z_");
    throw isDeflateError ? damaged(archive, `${entry.name}: ${cause.message}`) : cause;
  }
  if (size !== entry.size || checksum !== entry.crc32) throw damaged(archive, `${entry.name} does not match its checksum`);
}

/**
 * @param {import("node:fs/promises").FileHandle} file
 * @param {string} archive
 * @param {number} start
 * @param {number} size
 */
async function* chunks(file, archive, start, size) {
  for (let done = 0; done < size; done += CHUNK_BYTES) {
    yield await readExactly(file, archive, start + done, Math.min(CHUNK_BYTES, size - done));
  }
}

/**
 * @param {import("node:fs/promises").FileHandle} file
 * @param {string} archive
 * @param {number} start
 * @param {number} size
 */
async function readExactly(file, archive, start, size) {
  const bytes = Buffer.alloc(size);
  const { bytesRead } = await file.read(bytes, 0, size, start);
  if (bytesRead !== size) throw damaged(archive, "it is cut short");
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/**
 * CRC-32 as in zip, continued from `previous`. `zlib.crc32` came only with Node 20.15.
 *
 * @param {Uint8Array} bytes
 * @param {number} previous
 */
function crc32(bytes, previous) {
  let c = ~previous;
  for (let i = 0; i < bytes.length; i++) c = /** @type {number} */ (CRC_TABLE[(c ^ /** @type {number} */ (bytes[i])) & 0xff]) ^ (c >>> 8);
  return ~c >>> 0;
}

/**
 * @param {string} archive
 * @param {string} reason
 */
function damaged(archive, reason) {
  return new SetupError(`cannot unpack ${archive}: ${reason}; delete it and start again`);
}
