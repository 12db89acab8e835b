import type { FileHandle } from "node:fs/promises";
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { ConfigError } from "../../errors.ts";
import { openFile, reasonOf } from "./bytes.ts";
import { plainValue } from "./plain-value.ts";
import type { RawRecord, ReadOptions } from "./raw-record.ts";

/** Rows decoded at a time: a row group may be most of the file. */
const SLICE_ROWS = 10_000;

/**
 * The rows of a Parquet file, a part of a row group at a time; pages may be plain or compressed by snappy, zstd, gzip, brotli
 * or lz4.
 *
 * @throws {ConfigError} for a file that is damaged, truncated or empty
 */
export async function* readParquet(path: string, { signal }: ReadOptions = {}): AsyncGenerator<RawRecord> {
  const handle = await openFile(path);
  try {
    const file = asyncBuffer(handle, (await handle.stat()).size);
    const metadata = await explained(path, () => parquetMetadataAsync(file));
    let groupStart = 0;
    for (const group of metadata.row_groups) {
      const groupEnd = groupStart + Number(group.num_rows);
      for (let rowStart = groupStart; rowStart < groupEnd; rowStart += SLICE_ROWS) {
        signal?.throwIfAborted();
        const rowEnd = Math.min(groupEnd, rowStart + SLICE_ROWS);
        const rows = await explained(path, () => parquetReadObjects({ file, metadata, rowStart, rowEnd, compressors }));
        for (const [i, row] of rows.entries()) yield { value: plainValue(row), line: rowStart + i + 1, path };
      }
      groupStart = groupEnd;
    }
    if (groupStart === 0) throw new ConfigError(`${path}: expected at least one record, found a Parquet file without rows`);
  } finally {
    await handle.close();
  }
}

function asyncBuffer(handle: FileHandle, byteLength: number): AsyncBuffer {
  return {
    byteLength,
    async slice(start, end = byteLength) {
      const from = start < 0 ? byteLength + start : start;
      const bytes = new Uint8Array(Math.max(0, Math.min(end, byteLength) - from));
      const { bytesRead } = await handle.read(bytes, 0, bytes.length, from);
      return bytes.buffer.slice(0, bytesRead);
    },
  };
}

async function explained<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw new ConfigError(`${path}: expected a whole Parquet file, found a damaged or truncated one: ${reasonOf(cause)}; ` +
      "copy or download it again", { cause });
  }
}
