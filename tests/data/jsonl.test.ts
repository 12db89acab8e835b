import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { type JsonLine, readJsonl } from "../../src/data/jsonl.ts";
import { expectConfigError } from "./expect-config-error.ts";
import { tempFile, tempFolder } from "./temp-file.ts";

async function readAll(path: string): Promise<JsonLine[]> {
  const lines: JsonLine[] = [];
  for await (const line of readJsonl(path)) lines.push(line);
  return lines;
}

/** 20,000 lines of about 60 bytes: many chunks of a file stream, so lines are cut at chunk ends. */
const values = Array.from({ length: 20_000 }, (_, i) => ({ id: i, text: `line ${i} \u00e9\u4e16\u{1f600}`, square: i * i }));
const text = values.map((value) => JSON.stringify(value)).join("\n");

describe("readJsonl", () => {
  test.each([
    ["plain", Buffer.from(text), "data.jsonl"],
    ["gzip", gzipSync(text), "data.jsonl.gz"],
    ["zstd", zstdCompressSync(text), "data.jsonl.zst"],
    ["gzip under a plain name", gzipSync(text), "data.jsonl"],
    ["plain under a .gz name", Buffer.from(text), "data.jsonl.gz"],
    ["two gzip members", Buffer.concat([gzipSync(text.slice(0, 1000)), gzipSync(text.slice(1000))]), "data.jsonl.gz"],
  ])("reads %s", async (_, content, name) => {
    const lines = await readAll(tempFile(content, name));
    expect(lines.map((line) => line.value)).toEqual(values);
    expect(lines.at(-1)?.line).toBe(20_000);
  });

  test("passes over blank lines but counts them, and takes CRLF and a byte order mark", async () => {
    const lines = await readAll(tempFile('\ufeff{"a":1}\r\n\r\n  \n{"a":2}\r\n'));
    expect(lines).toEqual([{ value: { a: 1 }, line: 1 }, { value: { a: 2 }, line: 4 }]);
  });

  test("does not end a line at U+2028, which JSON strings may contain", async () => {
    expect(await readAll(tempFile('{"a":"x\u2028y"}\n'))).toEqual([{ value: { a: "x\u2028y" }, line: 1 }]);
  });

  test("may be left before the end", async () => {
    for await (const { value } of readJsonl(tempFile(gzipSync(text)))) {
      expect(value).toEqual(values[0]);
      break;
    }
  });

  test("names file and line of bad JSON", async () => {
    await expectConfigError(
      () => readAll(tempFile('{"a":1}\n\n{"a":\n')),
      /data\.jsonl:3: expected one JSON object on the line, found: .*JSONL/,
    );
  });

  test("names file and line of bytes that are not UTF-8", async () => {
    const latin1 = Buffer.concat([Buffer.from('{"a":1}\n{"a":"'), Buffer.from([0xe9]), Buffer.from('"}\n')]);
    await expectConfigError(() => readAll(tempFile(latin1)), /data\.jsonl:2: expected UTF-8 text, found other bytes/);
  });

  test("refuses a file that is missing, a folder, empty or blank", async () => {
    const folder = tempFolder();
    await expectConfigError(() => readAll(join(folder, "none.jsonl")), /none\.jsonl: expected a data file, found nothing; check the path/);
    await expectConfigError(() => readAll(folder), /expected a data file, found a folder; name the files inside it/);
    await expectConfigError(() => readAll(tempFile("")), /data\.jsonl: expected at least one record, found an empty file/);
    await expectConfigError(() => readAll(tempFile(gzipSync(""))), /data\.jsonl: expected at least one record, found an empty file/);
    await expectConfigError(() => readAll(tempFile("\n \n")), /data\.jsonl: expected at least one record, found only blank lines/);
  });

  test("refuses compressed files that end early or are damaged", async () => {
    const gzip = gzipSync(text);
    const zstd = zstdCompressSync(text);
    const broken = Buffer.from(zstd);
    broken.fill(0xff, broken.length >> 1);
    for (const content of [gzip.subarray(0, -1), gzip.subarray(0, 6), zstd.subarray(0, -1), zstd.subarray(0, 6), broken]) {
      await expectConfigError(
        () => readAll(tempFile(content)),
        /data\.jsonl: expected a whole compressed file, found a damaged or truncated one: /,
      );
    }
  });
});
