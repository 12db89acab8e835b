import * as zlib from "node:zlib";
import { ConfigError } from "../../errors.ts";
import { openFile, reasonOf } from "./bytes.ts";
import { plainValue } from "./plain-value.ts";
import type { RawRecord, ReadOptions } from "./raw-record.ts";

/**
 * The rows of an Arrow IPC file or stream, a record batch at a time, as Hugging Face `datasets` writes them; buffers may be plain
 * or compressed by zstd.
 *
 * @throws {ConfigError} for a file that is damaged, truncated or empty, and where the optional package apache-arrow is not installed
 */
export async function* readArrow(path: string, { signal }: ReadOptions = {}): AsyncGenerator<RawRecord> {
  const arrow = await loadArrow(path);
  const handle = await openFile(path);
  let line = 0;
  try {
    const reader = await explained(path, async () => {
      const opened = await arrow.RecordBatchReader.from(handle);
      return opened.open();
    });
    for (;;) {
      signal?.throwIfAborted();
      const { done, value: batch } = await explained(path, async () => reader.next());
      if (done === true) break;
      for (let i = 0; i < batch.numRows; i++) {
        line++;
        yield { value: plainValue(batch.get(i)), line, path };
      }
    }
  } finally {
    await handle.close();
  }
  if (line === 0) throw new ConfigError(`${path}: expected at least one record, found an Arrow file without rows`);
}

async function loadArrow(path: string): Promise<typeof import("apache-arrow")> {
  let arrow: typeof import("apache-arrow");
  try {
    arrow = await import("apache-arrow");
  } catch (cause) {
    throw new ConfigError(`${path}: Arrow files need the package apache-arrow, which is not installed; run npm install apache-arrow, ` +
      "or save the data as Parquet", { cause });
  }
  // The library wants a buffer that begins at its storage's beginning, hence the copy.
  const decode = (bytes: Uint8Array) => new Uint8Array(zlib.zstdDecompressSync(bytes));
  if ("zstdDecompressSync" in zlib) arrow.compressionRegistry.set(arrow.CompressionType.ZSTD, { decode });
  return arrow;
}

async function explained<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw new ConfigError(`${path}: cannot be read as an Arrow file: ${reasonOf(cause)}; copy or download it again, or save it as Parquet`,
      { cause });
  }
}
