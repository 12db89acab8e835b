import { type FileHandle, open } from "node:fs/promises";
import { type Duplex, pipeline, type Readable } from "node:stream";
import * as zlib from "node:zlib";
import { ConfigError } from "../../errors.ts";

/**
 * The bytes of a file in chunks, decompressed. Whether it is plain, gzip or zstd is decided by its first bytes; the name is not
 * looked at.
 *
 * @throws {ConfigError} for a file that is missing, unreadable, a folder or damaged
 */
export async function* readBytes(path: string, signal?: AbortSignal): AsyncGenerator<Buffer> {
  const { source, decoder } = await openSource(path);
  // The callback needs no code: pipeline destroys the decoder with the error, and reading it below throws that error.
  const stream = decoder === undefined ? source : pipeline(source, decoder, () => {});
  try {
    for await (const chunk of stream) {
      signal?.throwIfAborted();
      yield chunk as Buffer;
    }
  } catch (cause) {
    signal?.throwIfAborted();
    const problem = decoder === undefined ? "cannot be read" : "expected a whole compressed file, found a damaged or truncated one";
    throw new ConfigError(`${path}: ${problem}: ${reasonOf(cause)}; copy or download it again`, { cause });
  }
}

/**
 * Opens a file for reading; the caller closes it.
 *
 * @throws {ConfigError} for a file that is missing, unreadable or a folder
 */
export async function openFile(path: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new ConfigError(isMissing
      ? `${path}: expected a data file, found nothing; check the path`
      : `${path}: cannot be opened: ${reasonOf(cause)}; check its permissions`, { cause });
  }
  if (!(await handle.stat()).isDirectory()) return handle;
  await handle.close();
  throw new ConfigError(`${path}: expected a data file, found a folder; name the files inside it`);
}

/** The first `count` bytes of a file, as they are on the disk; fewer if the file is shorter. @throws {ConfigError} as `openFile` */
export async function firstBytes(path: string, count: number): Promise<Buffer> {
  const handle = await openFile(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(count), 0, count, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** Text of UTF-8 bytes. @throws {ConfigError} naming `where` for other bytes */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ConfigError(`${where}: expected UTF-8 text, found other bytes; convert the file to UTF-8`, { cause });
  }
}

/** The compression that a file's first bytes show: RFC 1952 for gzip, RFC 8878 for zstd. */
export function compressionOf(head: Buffer): "gzip" | "zstd" | undefined {
  const magic = head.toString("hex", 0, 4);
  if (magic.startsWith("1f8b")) return "gzip";
  return magic === "28b52ffd" ? "zstd" : undefined;
}

/** An error's own words. */
export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

interface Source {
  readonly source: Readable;
  /** What decompresses `source`; `undefined` for plain bytes. */
  readonly decoder: Duplex | undefined;
}

async function openSource(path: string): Promise<Source> {
  const handle = await openFile(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    const decoder = decoderFor(path, buffer.subarray(0, bytesRead));
    return { source: handle.createReadStream({ start: 0, highWaterMark: 1 << 18 }), decoder };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function decoderFor(path: string, head: Buffer): Duplex | undefined {
  const compression = compressionOf(head);
  if (compression === undefined) return undefined;
  if (compression === "gzip") return zlib.createGunzip({ chunkSize: 1 << 18 });
  if (!("createZstdDecompress" in zlib)) {
    throw new ConfigError(`${path}: zstd files need Node 22.15 or newer, this is ${process.version}; update Node or decompress the file`);
  }
  return zlib.createZstdDecompress({ chunkSize: 1 << 18 });
}
