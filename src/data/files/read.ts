import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, extname, join } from "node:path";
import { ConfigError } from "../../errors.ts";
import { readJsonl } from "../jsonl.ts";
import { readArrow } from "./arrow.ts";
import { compressionOf, firstBytes, reasonOf } from "./bytes.ts";
import { tableReader } from "./csv.ts";
import { readJson } from "./json.ts";
import { readParquet } from "./parquet.ts";
import type { RawRecord, Reader, ReadOptions } from "./raw-record.ts";

export type { RawRecord } from "./raw-record.ts";

/** Text formats by the ending of the name; any of them may be compressed. */
const TEXT_READERS: Readonly<Record<string, Reader>> = {
  ".jsonl": readLines, ".ndjson": readLines, ".json": readJson, ".csv": tableReader(","), ".tsv": tableReader("\t"),
};

/** Binary formats by the ending of the name, and the first bytes that tell them, in hexadecimal. */
const BINARY_READERS: Readonly<Record<string, { readonly reader: Reader; readonly magic: readonly string[] }>> = {
  ".parquet": { reader: readParquet, magic: [hexOf("PAR1")] },
  ".arrow": { reader: readArrow, magic: [hexOf("ARROW1"), "ffffffff"] }, // a file, and a stream
};

const COMPRESSED = [".gz", ".zst"];
const KNOWN = `${[...Object.keys(TEXT_READERS), ...Object.keys(BINARY_READERS)].join(", ")}, and text also with ${COMPRESSED.join(" or ")}`;

/** Files beside the data of a Hugging Face data set. */
const METADATA = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"];

/**
 * The records of a data file of any format, in order, read as they are taken: JSONL, JSON, CSV, TSV, Parquet or Arrow, text
 * also compressed. Binary formats and compression are told by the first bytes, text formats by the ending of the name.
 *
 * @throws {ConfigError} with the file, and the line or number of the record where it is one, for what cannot be read
 */
export async function* readFile(path: string, options: ReadOptions = {}): AsyncGenerator<RawRecord> {
  const reader = readerFor(path, await firstBytes(path, 8));
  yield* reader(path, options);
}

/**
 * The data files of a folder in the order of their names, or the file itself. A folder that Hugging Face `datasets` saved gives
 * the files that its `state.json` lists.
 *
 * @throws {ConfigError} for a path that is missing, and for a folder without data or with several splits
 */
export function dataFiles(path: string): string[] {
  if (!existsSync(path)) throw new ConfigError(`${path}: expected a data file or a folder of them, found nothing; check the path`);
  if (!statSync(path).isDirectory()) return [path];
  const names = readdirSync(path).sort();
  if (names.includes("state.json")) return savedFiles(path);
  const files = names.filter((name) => !name.startsWith(".") && !METADATA.includes(name) && isKnown(name));
  if (files.length === 0) {
    const folders = names.filter((name) => statSync(join(path, name)).isDirectory());
    throw new ConfigError(`${path}: expected data files (${KNOWN}), found ${describeNames(names)}` +
      (folders.length > 0 ? `; name one of its folders, such as ${join(path, folders[0] ?? "")}` : "; check the path"));
  }
  const splits = new Set(files.map(splitOf).filter((split) => split !== undefined));
  if (splits.size > 1) {
    throw new ConfigError(`${path}: expected the files of one split, found ${[...splits].join(" and ")} together; ` +
      "name the files to train on, so that what is meant for evaluation stays out");
  }
  return files.map((name) => join(path, name));
}

async function* readLines(path: string, options?: ReadOptions): AsyncGenerator<RawRecord> {
  for await (const { value, line } of readJsonl(path, options)) yield { value, line, path };
}

function readerFor(path: string, head: Buffer): Reader {
  const magic = head.toString("hex");
  for (const { reader, magic: known } of Object.values(BINARY_READERS)) {
    if (known.some((bytes) => magic.startsWith(bytes))) return reader;
  }
  const ending = endingOf(path);
  const text = TEXT_READERS[ending];
  if (text !== undefined) return text;
  const binary = BINARY_READERS[ending];
  if (binary === undefined) {
    const found = ending === "" ? "none" : `"${ending}"`;
    throw new ConfigError(`${path}: expected a data file with a known ending (${KNOWN}), found ${found}; rename or convert it`);
  }
  const compression = compressionOf(head);
  const found = head.length === 0 ? "an empty file" : compression ?? `bytes that begin with ${magic}`;
  const name = ending === ".arrow" ? "an Arrow" : "a Parquet";
  throw new ConfigError(`${path}: expected ${name} file, found ${found}; ${compression ? "decompress it" : "copy or download it again"}`);
}

/** The ending that tells the format, in lower case: `.jsonl` for `a.JSONL.gz`. */
function endingOf(path: string): string {
  const name = basename(path).toLowerCase();
  const ending = extname(name);
  return COMPRESSED.includes(ending) ? extname(basename(name, ending)) : ending;
}

function isKnown(name: string): boolean {
  return Object.hasOwn(TEXT_READERS, endingOf(name)) || Object.hasOwn(BINARY_READERS, endingOf(name));
}

/** The split that a name such as `test-00000-of-00002.parquet` or `train.jsonl` tells. */
function splitOf(name: string): string | undefined {
  const split = /^(train|test|validation|valid|val|dev|eval)(?![a-z])/i.exec(name)?.[1]?.toLowerCase();
  return split?.startsWith("val") ? "validation" : split;
}

/** The files of a data set that `save_to_disk` of Hugging Face `datasets` wrote. */
function savedFiles(folder: string): string[] {
  const path = join(folder, "state.json");
  try {
    const { _data_files: files } = JSON.parse(readFileSync(path, "utf8")) as { _data_files: { filename: string }[] };
    return files.map(({ filename }) => join(folder, basename(filename)));
  } catch (cause) {
    throw new ConfigError(`${path}: expected the list of data files that datasets writes, found: ${reasonOf(cause)}; ` +
      "save the data set again", { cause });
  }
}

function describeNames(names: readonly string[]): string {
  if (names.length === 0) return "an empty folder";
  return names.slice(0, 5).join(", ") + (names.length > 5 ? ` and ${names.length - 5} more` : "");
}

function hexOf(text: string): string {
  return Buffer.from(text).toString("hex");
}
