import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { dataFiles, type RawRecord, readFile } from "../../../src/data/files/read.ts";
import { expectConfigError } from "../expect-config-error.ts";
import { tempFile, tempFolder } from "../temp-file.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/data/formats/", import.meta.url));
const fixture = (name: string) => readFileSync(join(fixtures, name));

/** The 200 records that tests/external/data_formats.py wrote in every format. */
const records: Record<string, unknown>[] =
  fixture("records.jsonl").toString().trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>);

async function readAll(...paths: string[]): Promise<RawRecord[]> {
  const all: RawRecord[] = [];
  for (const path of paths) for await (const record of readFile(path)) all.push(record);
  return all;
}

const valuesOf = async (...paths: string[]) => (await readAll(...paths)).map(({ value }) => value);
const texts = (...values: unknown[]) => values.map((value) => JSON.stringify(value));

describe("readFile", () => {
  test.each([
    "records.jsonl", "array.json", "object.json", "lines.json.gz", "none.parquet", "snappy.parquet", "zstd.parquet", "gzip.parquet",
    "file.arrow", "zstd-file.arrow", "stream.arrow",
  ])("gives the same 200 records from %s", async (name) => {
    expect(texts(...await valuesOf(join(fixtures, name)))).toEqual(texts(...records));
  });

  test("gives the same records from a folder that datasets saved in two files", async () => {
    const files = dataFiles(join(fixtures, "saved"));
    expect(files.map((file) => file.slice(fixtures.length))).toEqual([
      "saved/data-00000-of-00002.arrow", "saved/data-00001-of-00002.arrow",
    ]);
    expect(texts(...await valuesOf(...files))).toEqual(texts(...records));
  });

  test.each(["flat.csv", "flat.tsv"])("gives the columns of %s as text, line breaks in quotes included", async (name) => {
    const expected = records.map(({ id, share, good, note }) => ({
      id: String(id), share: Number.isInteger(share) ? `${String(share)}.0` : String(share), good: String(good), note: note ?? "",
    }));
    expect(await valuesOf(join(fixtures, name))).toEqual(expected);
  });

  test("tells the line on which a record begins, and the number of a record in a binary file", async () => {
    const linesOf = async (name: string, content?: string) =>
      (await readAll(content === undefined ? join(fixtures, name) : tempFile(content, name))).map(({ line }) => line);
    expect(await linesOf("a.json", '[\n {"a": 1},\n {"a":\n 2}, {"a": "x\\"]"}\n,\n5\n]\n')).toEqual([2, 3, 4, 6]);
    expect(await linesOf("a.csv", 'a,b\n1,"x\ny"\n2,z\n')).toEqual([2, 4]);
    expect(await linesOf("stream.arrow")).toEqual(records.map((_, i) => i + 1));
    expect(await linesOf("snappy.parquet")).toEqual(records.map((_, i) => i + 1));
  });

  test.each([
    ["zstd", zstdCompressSync(fixture("array.json")), "a.json.zst"],
    ["gzip", gzipSync(fixture("array.json")), "A.JSON.GZ"],
    ["Parquet under another name", fixture("snappy.parquet"), "a.jsonl"],
  ])("reads %s", async (_, content, name) => {
    expect(await valuesOf(tempFile(content, name))).toEqual(records);
  });

  test("reads .json files of one record per line, and a lone record", async () => {
    expect(await valuesOf(tempFile('{"a": [{"b": 1}]}\n{"a": []}\n', "a.json"))).toEqual([{ a: [{ b: 1 }] }, { a: [] }]);
    expect(await valuesOf(tempFile('{"prompt": "x", "tags": ["y"]}', "a.json"))).toEqual([{ prompt: "x", tags: ["y"] }]);
    expect(await valuesOf(tempFile('{"data": [{"b": 1}]}', "a.json"))).toEqual([{ b: 1 }]);
    expect(await valuesOf(tempFile('\ufeff[{"b": [1, [2]]}, "x,]", null]', "a.json"))).toEqual([{ b: [1, [2]] }, "x,]", null]);
  });

  test("cuts a JSON document at any place between chunks", async () => {
    // 3 MB: a dozen chunks of the file stream.
    const values = Array.from({ length: 20_000 }, (_, i) => ({ id: i, text: `"[{\\${"\u4e16".repeat(i % 60)}`, list: [{ i }] }));
    expect(await valuesOf(tempFile(JSON.stringify(values), "a.json"))).toEqual(values);
  });

  const stopped = ["records.jsonl", "array.json", "flat.csv", "snappy.parquet", "stream.arrow"];
  test.each(stopped)("stops in %s when it is told to", async (name) => {
    const abort = new AbortController();
    let count = 0;
    const read = async () => {
      for await (const _ of readFile(join(fixtures, name), { signal: abort.signal })) {
        count++;
        abort.abort();
      }
    };
    // What has been read from the disk is still given: here all of a small text file, or a row group or batch of 70.
    await read().catch((error: unknown) => expect(error).toMatchObject({ name: "AbortError" }));
    expect(count).toBeGreaterThan(0);
    await expect(read()).rejects.toMatchObject({ name: "AbortError" });
  });
});

const parquet = fixture("snappy.parquet");

test.each<[string, string | Uint8Array, string, RegExp]>([
  ["an unknown ending", "x", "a.txt", /a\.txt: expected a data file with a known ending \(\.jsonl, .*\.gz or \.zst\), found "\.txt"; /],
  ["no ending", "x", "data", /data: expected a data file with a known ending .*, found none; rename or convert it/],
  ["an empty Parquet file", "", "a.parquet", /a\.parquet: expected a Parquet file, found an empty file; /],
  ["another file called Parquet", "PK34xxxxxxxx", "a.parquet", /expected a Parquet file, found bytes that begin with 504b3334.*; copy/],
  ["compressed Parquet", gzipSync(parquet), "a.parquet.gz", /expected a Parquet file, found gzip; decompress it/],
  ["a truncated Parquet file", parquet.subarray(0, 500), "a.parquet", /a\.parquet: expected a whole Parquet file, found a damaged or tru/],
  ["a truncated Arrow file", fixture("file.arrow").subarray(0, 900), "a.arrow", /a\.arrow: cannot be read as an Arrow file: .*; copy or/],
  ["another file called Arrow", "hello, world", "a.arrow", /a\.arrow: expected an Arrow file, found bytes that begin with 68656c6c/],
  ["truncated gzip", gzipSync('[{"a":1}]').subarray(0, -4), "a.json.gz", /a\.json\.gz: expected a whole compressed file, found a damaged/],
  ["an empty JSON file", "", "a.json", /a\.json: expected at least one record, found an empty file; /],
  ["an empty array", "[ ]", "a.json", /a\.json: expected at least one record, found an empty array; /],
  ["an object without an array", '{\n"a": 1}', "a.json", /a\.json: expected at least one record, found no array of records; /],
  ["an object with two arrays", '{\n"a": [1],\n"b": [2]}', "a.json", /a\.json:3: expected one array of records, found a second array in/],
  ["JSON that ends early", '[{"a": 1},\n{"a"', "a.json", /a\.json:2: expected whole JSON, found the end of the file inside a value; /],
  ["JSON without a comma", '[{"a": 1}\n{"a": 2}]', "a.json", /a\.json:1: expected one JSON value, found: .*; write an array of records/],
  ["JSON with a comma too many", '[{"a": 1},\n]', "a.json", /a\.json:2: expected one JSON value, found: nothing between two commas; /],
  ["text after the array", '[{"a": 1}]\nx', "a.json", /a\.json:2: expected one array of records, found more text after the end/],
  ["something else called JSON", "hello", "a.json", /a\.json:1: expected one array of records, found neither \[ nor \{ at the beginn/],
  ["JSON that is not UTF-8", Buffer.from('[\n{"a": "\xe9"}]', "latin1"), "a.json", /a\.json:2: expected UTF-8 text, found other bytes; /],
  ["CSV that is not UTF-8", Buffer.from("a,b\n1,2\n3,\xe9\n", "latin1"), "a.csv", /a\.csv:3: expected UTF-8 text, found other bytes; /],
  ["a CSV row with too many values", "a,b\n1,2\n1,2,3\n", "a.csv", /a\.csv:3: cannot be read as a table: .*; correct the row, or write/],
  ["CSV with an open quote", 'a,b\n1,"2\n', "a.csv", /a\.csv:\d: cannot be read as a table: Quote Not Closed.*; correct the row/],
  ["a CSV header with a name twice", "a,b,a\n1,2,3\n", "a.csv", /a\.csv:1: expected a header with different names .*, found "a" twice/],
  ["a CSV header without a name", "a,,b\n1,2,3\n", "a.csv", /a\.csv:1: expected a header .*, found an empty name; name every column/],
  ["a CSV file with a header only", "a,b\n", "a.csv", /a\.csv: expected at least one record, found none; /],
])("readFile refuses %s, saying where and what to do", async (_, content, name, message) => {
  await expectConfigError(() => readAll(tempFile(content, name)), message);
});

describe("dataFiles", () => {
  const folderOf = (...names: string[]) => {
    const folder = tempFolder();
    for (const name of names) writeFileSync(join(folder, name), "{}\n");
    return folder;
  };

  test("gives a file itself, and a folder's data files in the order of their names", () => {
    const folder = folderOf("b.jsonl", "a.parquet", "c.csv.gz", "README.md", ".hidden.jsonl", "dataset_infos.json");
    expect(dataFiles(folder)).toEqual(["a.parquet", "b.jsonl", "c.csv.gz"].map((name) => join(folder, name)));
    expect(dataFiles(join(folder, "b.jsonl"))).toEqual([join(folder, "b.jsonl")]);
  });

  test("refuses what is missing, has no data, or would mix splits", async () => {
    await expectConfigError(() => dataFiles("/none"), /^\/none: expected a data file or a folder of them, found nothing; check the path$/);
    await expectConfigError(() => dataFiles(folderOf("README.md")), /: expected data files \(.*\), found README\.md; check the path$/);
    await expectConfigError(() => dataFiles(folderOf("train.jsonl", "test.jsonl", "training.jsonl")),
      /: expected the files of one split, found test and train together; name the files to train on/);
    const nested = folderOf("dataset_dict.json");
    mkdirSync(join(nested, "train"));
    cpSync(join(fixtures, "saved"), join(nested, "train"), { recursive: true });
    await expectConfigError(() => dataFiles(nested), /found dataset_dict\.json, train; name one of its folders, such as .*train$/);
    const broken = folderOf("state.json");
    await expectConfigError(() => dataFiles(broken), /state\.json: expected the list of data files that datasets writes, found: /);
  });
});
