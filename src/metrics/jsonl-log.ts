import { closeSync, openSync, writeSync } from "node:fs";
import { getSystemErrorMessage } from "node:util";
import { ConfigError } from "../errors.ts";

/**
 * A JSONL file that grows by one object per line. Each line is handed to the system at once, so that a process that dies
 * loses nothing; it is not synced to the disk line by line.
 *
 * JSON has no NaN and no infinity: such a number is written as null and its name listed under `nonFinite`, e.g.
 * `{"step":3,"loss":null,"nonFinite":["loss"]}`.
 */
export class JsonlLog {
  readonly #path: string;
  readonly #file: number;

  /** Opens the file for appending. @throws {ConfigError} when it cannot be opened */
  constructor(path: string) {
    this.#path = path;
    this.#file = this.#attempt(() => openSync(path, "a"));
  }

  /** Appends one object. @throws {ConfigError} when the disk is full or the file cannot be written */
  append(record: Readonly<Record<string, unknown>>): void {
    const nonFinite = Object.keys(record).filter((key) => typeof record[key] === "number" && !Number.isFinite(record[key]));
    const line = JSON.stringify(nonFinite.length === 0 ? record : { ...record, nonFinite });
    this.#attempt(() => writeSync(this.#file, `${line}\n`));
  }

  /** Closes the file. */
  close(): void {
    closeSync(this.#file);
  }

  #attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (cause) {
      if (!(cause instanceof Error && "errno" in cause)) throw cause;
      throw new ConfigError(`could not write ${this.#path}: ${getSystemErrorMessage(Number(cause.errno))}`, { cause });
    }
  }
}

/** The metrics of a run: one object per step with `step`, `time` (seconds since the log was opened) and the step's numbers. */
export class MetricsLog {
  readonly #log: JsonlLog;
  readonly #begin = performance.now();

  /** @throws {ConfigError} when the file cannot be opened */
  constructor(path: string) {
    this.#log = new JsonlLog(path);
  }

  /** Appends the numbers of one step. @throws {ConfigError} when the disk is full */
  log(step: number, metrics: Readonly<Record<string, number>>): void {
    const time = Math.round(performance.now() - this.#begin) / 1000;
    this.#log.append({ step, time, ...metrics });
  }

  /** Closes the file. */
  close(): void {
    this.#log.close();
  }
}
