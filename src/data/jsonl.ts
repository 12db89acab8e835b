import { ConfigError } from "../errors.ts";
import { decodeUtf8, readBytes, reasonOf } from "./files/bytes.ts";
import type { ReadOptions } from "./files/raw-record.ts";
import { type Origin, RecordError } from "./records.ts";

/** One JSON value of a JSONL file and the line it stands on, counted from 1 with blank lines included. */
export interface JsonLine {
  readonly value: unknown;
  readonly line: number;
}

/** Longest line, in bytes: a larger one is a file of another format, and would be held in memory whole. */
const MAX_LINE_BYTES = 1 << 28;

/**
 * The JSON values of a JSONL file, in order; blank lines are passed over.
 * Whether the file is plain, gzip or zstd is decided by its first bytes; the name is not looked at.
 *
 * @throws {ConfigError} for a file that is missing, unreadable, a folder, empty or damaged, and with `file:line` for a line
 *   that is not UTF-8 or not JSON
 */
export async function* readJsonl(path: string, options: ReadOptions = {}): AsyncGenerator<JsonLine> {
  let line = 0;
  let isEmpty = true;
  for await (const bytes of splitLines(readBytes(path, options.signal), path)) {
    line++;
    if (isBlank(bytes)) continue;
    isEmpty = false;
    const value = tolerant(() => parseLine(bytes, { path, line }), options.onBadRecord);
    if (value !== undefined) yield { value, line };
  }
  if (isEmpty) {
    throw new ConfigError(`${path}: expected at least one record, found ${line === 0 ? "an empty file" : "only blank lines"}; ` +
      "write one JSON object per line");
  }
}

/** What `read` gives, or nothing where a record is bad and `onBadRecord` takes its error. */
export function tolerant(read: () => unknown, onBadRecord: ReadOptions["onBadRecord"]): unknown {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof RecordError) || onBadRecord === undefined) throw error;
    onBadRecord(error);
    return undefined;
  }
}

/** The text of a record. @throws {RecordError} if it is not UTF-8 */
export function decodeRecord(bytes: Buffer, origin: Origin): string {
  try {
    return decodeUtf8(bytes, `${origin.path}:${origin.line}`);
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    throw new RecordError(origin, undefined, cause.message.slice(`${origin.path}:${origin.line}: `.length), { cause });
  }
}

function isBlank(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 32 || (byte >= 9 && byte <= 13));
}

function parseLine(bytes: Buffer, origin: Origin): unknown {
  const text = decodeRecord(bytes, origin);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RecordError(origin, undefined, `expected one JSON object on the line, found: ${reasonOf(cause)}; ` +
      "write each record on a line of its own (JSONL)", { cause });
  }
}

/** Lines without their "\n". Node's readline is not used: it also breaks lines at U+2028, which JSON strings may contain. */
async function* splitLines(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Buffer> {
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let line = 1;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
      const rest = chunk.subarray(start, end);
      yield pending.length === 0 ? rest : Buffer.concat([...pending, rest]);
      pending = [];
      pendingBytes = 0;
      line++;
      start = end + 1;
    }
    if (start < chunk.length) pending.push(chunk.subarray(start));
    pendingBytes += chunk.length - start;
    if (pendingBytes > MAX_LINE_BYTES) {
      throw new ConfigError(`${path}:${line}: expected one record per line, found a line of more than ${MAX_LINE_BYTES >> 20} MiB; ` +
        "if the file is one JSON array, give it the ending .json");
    }
  }
  if (pending.length > 0) yield Buffer.concat(pending);
}
