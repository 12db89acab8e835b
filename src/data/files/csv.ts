import { isUtf8 } from "node:buffer";
import { pipeline, Readable } from "node:stream";
import { CsvError, parse } from "csv-parse";
import { ConfigError } from "../../errors.ts";
import { decodeUtf8, readBytes, reasonOf } from "./bytes.ts";
import type { Reader } from "./raw-record.ts";

/**
 * Reads tables as text (RFC 4180): the first row names the columns, every value is a string. Values in quotes may contain
 * line breaks, and a byte order mark is passed over.
 *
 * @throws {ConfigError} with `file:line` for a row with more or fewer values than there are columns and for broken quotes, and for
 *   a header with empty or repeated names
 */
export function tableReader(delimiter: "," | "\t"): Reader {
  return async function* readTable(path, { signal } = {}) {
    const parser = parse({
      bom: true, delimiter, info: true, skip_empty_lines: true, max_record_size: 1 << 28,
      columns: (names: string[]) => checkHeader(path, names),
    });
    pipeline(Readable.from(utf8(readBytes(path, signal), path)), parser, () => {}); // reading the parser throws the error
    let line = 1, isEmpty = true;
    try {
      for await (const { record, info } of parser as AsyncIterable<{ record: unknown; info: { lines: number } }>) {
        isEmpty = false;
        // Where the record ends is told, not where it begins; the one before ended on the line before (blank lines aside).
        yield { value: record, line: line + 1, path };
        line = info.lines;
      }
    } catch (error) {
      if (!(error instanceof CsvError)) throw error;
      throw new ConfigError(`${path}:${Number(error["lines"] ?? line)}: cannot be read as a table: ${reasonOf(error)}; correct the row, ` +
        "or write the records as JSONL", { cause: error });
    }
    if (!isEmpty) return;
    throw new ConfigError(`${path}: expected at least one record, found none; write the names of the columns, then a row each`);
  };
}

function checkHeader(path: string, names: readonly string[]): string[] {
  const wrong = names.find((name, i) => name.trim() === "" || names.indexOf(name) !== i);
  if (wrong !== undefined) {
    const found = wrong.trim() === "" ? "an empty name" : `"${wrong}" twice`;
    throw new ConfigError(`${path}:1: expected a header with different names of columns, found ${found}; name every column`);
  }
  return [...names];
}

/** The same bytes, checked piece by piece: the parser would replace what is not UTF-8. */
async function* utf8(chunks: AsyncIterable<Buffer>, path: string): AsyncGenerator<Buffer> {
  let line = 1;
  let rest = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([rest, chunk]);
    // A line break is one byte in UTF-8 and never part of a character.
    const end = bytes.lastIndexOf(10) + 1;
    if (end > 0) line += checkLines(bytes.subarray(0, end), path, line);
    rest = bytes.subarray(end);
    if (end > 0) yield bytes.subarray(0, end);
  }
  checkLines(rest, path, line);
  yield rest;
}

/** Returns the number of lines. */
function checkLines(bytes: Buffer, path: string, firstLine: number): number {
  let count = 0;
  const isWhole = isUtf8(bytes);
  for (let start = 0, end = bytes.indexOf(10); end !== -1; start = end + 1, end = bytes.indexOf(10, start)) {
    if (!isWhole) decodeUtf8(bytes.subarray(start, end), `${path}:${firstLine + count}`);
    count++;
  }
  if (!isWhole) decodeUtf8(bytes, `${path}:${firstLine + count}`);
  return count;
}
