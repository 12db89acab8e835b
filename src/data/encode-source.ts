import { cachedEntries, type FillEntries, type TokenCache } from "./cache/token-cache.ts";
import type { SampleCodec } from "./cache/sample-codec.ts";
import { shareOf } from "./blend.ts";
import { inOrder, type RecordEncoder } from "./encode.ts";
import { readFile } from "./files/read.ts";
import { type DataRecord, recordForStep, type SkippedRecord, type StepRecords } from "./records.ts";
import { type EncodedSource, type Entry, EntryTableBuilder } from "./samples.ts";
import { sourceFiles } from "./sources/locate.ts";
import { type DataSource, formatOf, recordReader } from "./sources/source.ts";
import type { Step } from "./split.ts";

/** What encoding a source takes, besides the source. */
export interface EncodeSourceOptions<S extends Step, T> {
  readonly step: S;
  readonly split: string | undefined;
  readonly seed: number;
  readonly encoder: RecordEncoder<StepRecords[S], T>;
  readonly codec: SampleCodec<T>;
  /** Without it samples stay in memory. */
  readonly cache: TokenCache | undefined;
  /** Told from time to time how far encoding is. */
  readonly note: (line: string) => void;
}

/**
 * A step's share of a source, encoded. Records are read, encoded and stored one after the other; with a cache only a few of them are in
 * memory.
 *
 * @throws {ConfigError} for a file that cannot be read, and a record that is malformed, lacks what the step needs, or cannot be encoded
 */
export async function encodeSource<S extends Step, T>(source: DataSource, options: EncodeSourceOptions<S, T>): Promise<EncodedSource<T>> {
  const { step, split, seed, encoder, codec, cache } = options;
  const files = await sourceFiles(source.path);
  const fill: FillEntries<T> = (add) => fillEntries(source, files, options, add);
  if (cache === undefined) return inMemory(fill);
  const { steps, fields } = source;
  const shape = { fields, format: formatOf(source) };
  const settings = { step, shape, ...encoder.options, ...(split === undefined ? {} : { split, seed, steps }) };
  return cachedEntries(cache, { files, settings }, codec, fill);
}

/** Seconds between two reports of progress. */
const REPORT_SECONDS = 10;

async function fillEntries<S extends Step, T>(
  source: DataSource, files: readonly string[], { step, split, seed, encoder, note }: EncodeSourceOptions<S, T>,
  add: (entry: Entry<T>) => Promise<void>,
): Promise<number> {
  const share = split === undefined ? undefined : shareOf(await countRecords(files), step, { split, seed, steps: source.steps });
  const progress = progressReport(note, source.path);
  let numLines = 0;
  async function* records(): AsyncGenerator<DataRecord | SkippedRecord> {
    for await (const record of readRecords(source, files)) {
      if (share === undefined || share.isIn[numLines] === 1) yield record;
      numLines++;
    }
  }
  const encode = async (record: DataRecord | SkippedRecord): Promise<Entry<T>> => {
    if (record.kind === "skipped") return { length: 0, reason: { kind: "skipped", text: record.reason } };
    const { length, sample, isTruncated, reason } = await encoder.encode(recordForStep(record, step));
    return { length, sample, isTruncated, reason: reason === undefined ? undefined : { kind: "dropped", text: reason } };
  };
  for await (const entry of inOrder(records(), encode)) {
    await add(entry);
    progress();
  }
  return numLines;
}

/** The records of files, one after the other. @throws {ConfigError} for a file that cannot be read and a record that is malformed */
export async function* readRecords(source: DataSource, files: readonly string[]): AsyncGenerator<DataRecord | SkippedRecord> {
  const parse = recordReader(source);
  for (const file of files) {
    for await (const { value, line, path } of readFile(file)) yield parse(value, { path, line });
  }
}

async function countRecords(files: readonly string[]): Promise<number> {
  let count = 0;
  for (const file of files) for await (const _ of readFile(file)) count++;
  return count;
}

async function inMemory<T>(fill: FillEntries<T>): Promise<EncodedSource<T>> {
  const table = new EntryTableBuilder();
  const samples = new Map<number, T>();
  const numLines = await fill(async (entry) => {
    const number = table.add(entry);
    if (entry.sample !== undefined) samples.set(number, entry.sample);
  });
  return {
    ...table.finish(numLines),
    sampleAt(entry) {
      const sample = samples.get(entry);
      if (sample === undefined) throw new RangeError(`entry ${entry} has no sample`);
      return sample;
    },
  };
}

function progressReport(note: (line: string) => void, path: string): () => void {
  const begin = performance.now();
  let count = 0, reported = begin;
  return () => {
    count++;
    const now = performance.now();
    if (now - reported < REPORT_SECONDS * 1000) return;
    reported = now;
    note(`${path}: ${count} records encoded, ${Math.round(count / ((now - begin) / 1000))} a second`);
  };
}
