import { ConfigError } from "../../errors.ts";
import type { DataRecord, Origin, SkippedRecord } from "../records.ts";
import type { Step } from "../split.ts";
import { compileMapping, type RowMapper } from "./mapping.ts";
import type { NamedDataset } from "./named/named-dataset.ts";
import { namedDataset, namedDatasets } from "./named/registry.ts";
import { parseRecord, parseRow } from "./parse-record.ts";

/** One entry of the setting `data`; a plain string there is its path. */
export interface DataSource {
  /** A file, a folder, the id of a data set on the hub, or the name of one that is known, such as `rm-static`. */
  readonly path: string;
  /** Name of the data set whose format the records have, `parity` for DeepSpeed-Chat's strings, or `parity:<name>` for both. */
  readonly format?: string;
  /** Field mapping, e.g. `{ prompt: "question", chosen: "better.text" }`; see `FieldMapping`. */
  readonly fields?: Readonly<Record<string, string>>;
  /** Share of this source in a blend. */
  readonly weight?: number;
  /** The steps that use it; all if not given. */
  readonly steps?: readonly Step[];
}

/** Makes a record of one value of a data file. @throws {RecordError} for a value that is none of the expected shape */
export type RecordReader = (value: unknown, origin: Origin) => DataRecord | SkippedRecord;

const PARITY = "parity";

/**
 * The function that reads the records of a source: by its field mapping, as the data set that it names, or by their shape.
 *
 * @throws {ConfigError} for a format that is unknown, a mapping that is wrong, and both together
 */
export function recordReader(source: DataSource): RecordReader {
  const { path, format, fields } = source;
  if (fields !== undefined) {
    if (format !== undefined) throw new ConfigError(`${path}: expected a format or a field mapping, found both; leave one out`);
    return readerOf(inSource(path, () => compileMapping(fields)));
  }
  const isParity = format === PARITY || format?.startsWith(`${PARITY}:`) === true;
  const name = isParity ? format.slice(PARITY.length + 1) : format;
  const dataset = datasetOf(path, name === "" ? undefined : name);
  if (isParity) return parityReader(path, dataset);
  return dataset?.read === undefined ? parseRecord : readerOf(dataset.read);
}

/** What decides how the records of a source are read, if not their shape: its format, or the known data set that it names. */
export function formatOf({ path, format, fields }: DataSource): string | undefined {
  if (fields !== undefined) return undefined;
  return format === PARITY ? `${PARITY}:${namedDataset(path)?.id}` : (format ?? namedDataset(path)?.id);
}

function datasetOf(path: string, format: string | undefined): NamedDataset | undefined {
  const dataset = namedDataset(format ?? path);
  if (dataset !== undefined || format === undefined) return dataset;
  const known = namedDatasets.map(({ id }) => id).join(", ");
  throw new ConfigError(`${path}: format "${format}" is unknown; expected ${PARITY} or one of ${known}`);
}

function readerOf(read: RowMapper): RecordReader {
  return (value, origin) => {
    const row = read(value, origin);
    return "kind" in row ? row : parseRow(row);
  };
}

/** DeepSpeed-Chat's own strings: text that is encoded as it is, without a chat template. */
function parityReader(path: string, dataset: NamedDataset | undefined): RecordReader {
  const original = dataset?.original;
  if (original === undefined) {
    const names = namedDatasets.filter((known) => known.original !== undefined).map(({ id }) => id);
    throw new ConfigError(`${path}: format ${PARITY}: expected a data set that DeepSpeed-Chat knows, found ${dataset?.id ?? "another"}; ` +
      `name one, such as ${PARITY}:${names[0]}; known are ${names.join(", ")}`);
  }
  const read: RowMapper = dataset?.read ?? compileMapping({ prompt: "prompt", chosen: "chosen", rejected: "rejected" });
  return (value, origin) => {
    const row = read(value, origin);
    if ("kind" in row) return row;
    const { prompt, chosen, rejected } = original(row);
    if (chosen === undefined) return { kind: "prompt", origin, prompt };
    if (rejected === undefined) return { kind: "demonstration", origin, prompt, answer: chosen, trainedTurns: "last" };
    return { kind: "preference", origin, prompt, chosen, rejected };
  };
}

function inSource<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    throw new ConfigError(`${path}: ${cause.message}`, { cause });
  }
}
