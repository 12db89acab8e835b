import { readFile } from "../data/files/read.ts";
import { type DataRecord, RecordError, type SkippedRecord } from "../data/records.ts";
import { shapeOf } from "../data/sources/parse-record.ts";
import { isObject } from "../data/sources/row.ts";
import { sourceFiles } from "../data/sources/locate.ts";
import { type DataSource, formatOf, recordReader } from "../data/sources/source.ts";
import { ConfigError } from "../errors.ts";
import { formatNumber } from "../metrics/format.ts";
import { visible } from "./terminal-text.ts";

/** One record of a data file, or what is wrong with it. */
export interface ReadRecord {
  /** The value in the file; undefined where it cannot be read. */
  readonly value: unknown;
  readonly line: number;
  readonly path: string;
  /** How the record is written: its shape, its mapping, or the data set whose format it has. */
  readonly shape: string;
  readonly result: DataRecord | SkippedRecord | RecordError;
}

/**
 * Every record of a source, in order, one at a time. What is wrong with a record is its result; reading goes on.
 *
 * @param onBadFile takes the error of a file whose rest cannot be read; the next file follows
 */
export async function* readSource(source: DataSource, onBadFile: (path: string, error: ConfigError) => void): AsyncGenerator<ReadRecord> {
  const read = recordReader(source);
  const shapeName = source.fields !== undefined ? "field mapping" : formatOf(source);
  let count = 0;
  for (const path of await sourceFiles(source.path)) {
    const unreadable: RecordError[] = [];
    const bad = (error: RecordError): ReadRecord =>
      ({ value: undefined, line: error.origin.line, path, shape: "unreadable", result: error });
    try {
      for await (const { value, line } of readFile(path, { onBadRecord: (error) => unreadable.push(error) })) {
        for (const error of unreadable.splice(0)) yield bad(error);
        if (++count % PROGRESS_EVERY === 0) showProgress(`${source.path}: ${formatNumber(count)} records`);
        const shape = shapeName ?? (isObject(value) ? shapeOf(value) : undefined) ?? "unknown";
        yield { value, line, path, shape, result: recordOrError(() => read(value, { path, line })) };
      }
      for (const error of unreadable.splice(0)) yield bad(error);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const other of unreadable.splice(0)) yield bad(other);
      onBadFile(path, error);
    }
  }
  if (count >= PROGRESS_EVERY) showProgress("");
}

const PROGRESS_EVERY = 50_000;

/** A line on the terminal that the next one replaces; nothing where standard error is no terminal. */
function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${visible(text)}`);
}

function recordOrError(read: () => DataRecord | SkippedRecord): DataRecord | SkippedRecord | RecordError {
  try {
    return read();
  } catch (error) {
    if (error instanceof RecordError) return error;
    throw error;
  }
}
