import { ConfigError } from "../../errors.ts";
import type { DataRecord, Origin, SkippedRecord } from "../records.ts";
import type { Step } from "../split.ts";
import { compileMapping, type RowMapper } from "./mapping.ts";
import type { NamedDataset } from "./named/named-dataset.ts";
import { namedDataset, namedDatasets } from "./named/registry.ts";
import { parseRecord, parseRow } from "./parse-record.ts";
import { isObject, describe } from "./row.ts";

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

/**
 * The source that an entry of a settings file describes: a path, or an object with `path`, `format`, `fields`, `weight`, `steps`.
 * Objects inside `fields` are flattened: `{ roles: { gpt: assistant } }` is `{ "roles.gpt": "assistant" }`.
 *
 * @param label names the entry in messages, such as `data[0]`
 * @throws {ConfigError} naming the key that is unknown or has the wrong kind of value
 */
export function parseDataSource(entry: unknown, label: string): DataSource {
  if (typeof entry === "string" && entry !== "") return { path: entry };
  if (!isObject(entry)) throw new ConfigError(`${label}: expected a path or an object with "path", found ${describe(entry)}`);
  const known = ["path", "format", "fields", "weight", "steps"];
  for (const key of Object.keys(entry)) {
    if (!known.includes(key)) throw new ConfigError(`${label}: "${key}" is unknown; known are ${known.join(", ")}`);
  }
  const { path, format, fields, weight, steps } = entry;
  if (typeof path !== "string" || path === "") throw new ConfigError(`${label}.path: expected a path, found ${describe(path)}`);
  if (format !== undefined && typeof format !== "string") {
    throw new ConfigError(`${label}.format: expected text, found ${describe(format)}`);
  }
  if (weight !== undefined && !(typeof weight === "number" && weight > 0 && Number.isFinite(weight))) {
    throw new ConfigError(`${label}.weight: expected a number above 0, found ${JSON.stringify(weight)}`);
  }
  return {
    path,
    ...(format === undefined ? {} : { format }),
    ...(fields === undefined ? {} : { fields: flatFields(fields, `${label}.fields`) }),
    ...(weight === undefined ? {} : { weight }),
    ...(steps === undefined ? {} : { steps: parseSteps(steps, `${label}.steps`) }),
  };
}

function parseSteps(steps: unknown, label: string): Step[] {
  const names = ["sft", "reward", "dpo", "ppo"] as const satisfies readonly Step[];
  const list: readonly unknown[] = Array.isArray(steps) ? steps : [steps];
  return list.map((step) => {
    const name = names.find((known) => known === step);
    if (name === undefined) throw new ConfigError(`${label}: expected some of ${names.join(", ")}, found ${JSON.stringify(step)}`);
    return name;
  });
}

function flatFields(fields: unknown, label: string): Record<string, string> {
  if (!isObject(fields)) throw new ConfigError(`${label}: expected an object such as { prompt: question }, found ${describe(fields)}`);
  return Object.fromEntries(Object.entries(fields).flatMap(([key, value]): [string, string][] => {
    if (isObject(value)) return Object.entries(flatFields(value, `${label}.${key}`)).map(([inner, text]) => [`${key}.${inner}`, text]);
    if (typeof value === "string" || typeof value === "number") return [[key, String(value)]];
    throw new ConfigError(`${label}.${key}: expected a path or text, found ${describe(value)}`);
  }));
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
