import type { FileHandle } from "node:fs/promises";
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { ConfigError } from "../../errors.ts";
import { openFile, reasonOf } from "./bytes.ts";
import { plainValue } from "./plain-value.ts";
import type { RawRecord, ReadOptions } from "./raw-record.ts";

/**
 * Decoded bytes that are held at a time. A row group is usually smaller. One that is larger is read in several slices, for each of
 * which all its pages up to the slice are decoded again: smaller slices would take much longer.
 */
const SLICE_BYTES = 1 << 28;

/**
 * The rows of a Parquet file, a row group at a time, or a part of a large one; pages may be plain or compressed by snappy, zstd,
 * gzip, brotli or lz4.
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
      const numRows = Number(group.num_rows), groupEnd = groupStart + numRows;
      const sliceRows = Math.max(1, Math.ceil(numRows / Math.ceil(Number(group.total_byte_size) / SLICE_BYTES || 1)));
      for (let rowStart = groupStart; rowStart < groupEnd; rowStart += sliceRows) {
        signal?.throwIfAborted();
        const rowEnd = Math.min(groupEnd, rowStart + sliceRows);
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
