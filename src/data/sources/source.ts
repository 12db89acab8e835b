import type { DataRecord, Origin, SkippedRecord } from "../records.ts";
import type { Step } from "../split.ts";
import { parseRecord } from "./parse-record.ts";

/**
 * One entry of `data:` in a settings file; a plain string stands for `{ path }`.
 *
 *     { path: "pairs.parquet", fields: { prompt: "question", chosen: "better.text" }, weight: 0.3, steps: ["reward"] }
 */
export interface DataSource {
  /** A file or a folder of files. */
  readonly path: string;
  /** Name of a format, where it is not recognised by itself. */
  readonly format?: string;
  /** Where in a record the fields are: our name -> path in the record. */
  readonly fields?: Readonly<Record<string, string>>;
  /** Share of an epoch, against the weights of the other sources. */
  readonly weight?: number;
  /** The steps that use it; all if not given. */
  readonly steps?: readonly Step[];
}

/** What makes a record of a value that a file of `source` holds. */
export function recordReader(_source: DataSource): (value: unknown, origin: Origin) => DataRecord | SkippedRecord {
  return parseRecord;
}
