import type { RecordError } from "../records.ts";

/** One record of a data file, before its fields are looked at. */
export interface RawRecord {
  /** What JSON could hold: numbers, strings, booleans, null, arrays and objects. */
  readonly value: unknown;
  /** The line on which the record begins in a text file, the number of the record in a binary one; both from 1. */
  readonly line: number;
  readonly path: string;
}

/** How a data file is read. */
export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Takes the errors of single records of JSON and JSONL files, after which reading goes on; without it they are thrown. Errors of
   * a file as a whole always are.
   */
  readonly onBadRecord?: ((error: RecordError) => void) | undefined;
}

/** Reads the records of one file of a certain format, in order, without holding the file. */
export type Reader = (path: string, options?: ReadOptions) => AsyncIterable<RawRecord>;
