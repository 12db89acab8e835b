import { type FileHandle, open } from "node:fs/promises";
import { type Duplex, pipeline, type Readable } from "node:stream";
import * as zlib from "node:zlib";
import { ConfigError } from "../errors.ts";

/** One JSON value of a JSONL file and the line it stands on, counted from 1 with blank lines included. */
export interface JsonLine {
  readonly value: unknown;
  readonly line: number;
}

/**
 * The JSON values of a JSONL file, in order; blank lines are passed over.
 * Whether the file is plain, gzip or zstd is decided by its first bytes; the name is not looked at.
 *
 * @throws {ConfigError} for a file that is missing, unreadable, a folder, empty or damaged, and with `file:line` for a line
 *   that is not UTF-8 or not JSON
 */
export async function* readJsonl(path: string): AsyncGenerator<JsonLine> {
  let line = 0;
  let isEmpty = true;
  for await (const bytes of splitLines(readChunks(path))) {
    line++;
    const text = decodeLine(bytes, `${path}:${line}`);
    if (text.trim() === "") continue;
    isEmpty = false;
    yield { value: parseLine(text, `${path}:${line}`), line };
  }
  if (isEmpty) {
    throw new ConfigError(`${path}: expected at least one record, found ${line === 0 ? "an empty file" : "only blank lines"}; ` +
      "write one JSON object per line");
  }
}

function decodeLine(bytes: Buffer, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ConfigError(`${where}: expected UTF-8 text, found other bytes; convert the file to UTF-8`, { cause });
  }
}

function parseLine(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ConfigError(`${where}: expected one JSON object on the line, found: ${reason(cause)}; ` +
      "write each record on a line of its own (JSONL)", { cause });
  }
}

/** Lines without their "\n". Node's readline is not used: it also breaks lines at U+2028, which JSON strings may contain. */
async function* splitLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pending: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      pending.push(chunk.subarray(start, end));
      yield Buffer.concat(pending);
      pending = [];
      start = end + 1;
    }
    if (start < chunk.length) pending.push(chunk.subarray(start));
  }
  if (pending.length > 0) yield Buffer.concat(pending);
}

async function* readChunks(path: string): AsyncGenerator<Buffer> {
  const { source, decoder } = await openSource(path);
  // The callback needs no code: pipeline destroys the decoder with the error, and reading it below throws that error.
  const stream = decoder === undefined ? source : pipeline(source, decoder, () => {});
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (cause) {
    const problem = decoder === undefined ? "cannot be read" : "expected a whole compressed file, found a damaged or truncated one";
    throw new ConfigError(`${path}: ${problem}: ${reason(cause)}; copy or download it again`, { cause });
  }
}

interface Source {
  readonly source: Readable;
  /** What decompresses `source`; `undefined` for plain text. */
  readonly decoder: Duplex | undefined;
}

async function openSource(path: string): Promise<Source> {
  const handle = await openFile(path);
  try {
    if ((await handle.stat()).isDirectory()) {
      throw new ConfigError(`${path}: expected a JSONL file, found a folder; name the files inside it`);
    }
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    const decoder = decoderFor(path, buffer.subarray(0, bytesRead).toString("hex"));
    return { source: handle.createReadStream({ start: 0 }), decoder };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    return await open(path);
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    throw new ConfigError(isMissing
      ? `${path}: expected a JSONL file, found nothing; check the path`
      : `${path}: cannot be opened: ${reason(cause)}; check its permissions`, { cause });
  }
}

/** The decompressor for a file whose first four bytes are `magic` (hexadecimal): RFC 1952 for gzip, RFC 8878 for zstd. */
function decoderFor(path: string, magic: string): Duplex | undefined {
  if (magic.startsWith("1f8b")) return zlib.createGunzip();
  if (magic !== "28b52ffd") return undefined;
  if (!("createZstdDecompress" in zlib)) {
    throw new ConfigError(`${path}: zstd files need Node 22.15 or newer, this is ${process.version}; update Node or decompress the file`);
  }
  return zlib.createZstdDecompress();
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
