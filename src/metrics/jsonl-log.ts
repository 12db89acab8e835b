import { AppendFile } from "./append-file.ts";

/**
 * A JSONL file that grows by one object per line, at once.
 *
 * JSON has no NaN and no infinity: such a number is written as null and its name listed under `nonFinite`, e.g.
 * `{"step":3,"loss":null,"nonFinite":["loss"]}`.
 */
export class JsonlLog {
  readonly #file: AppendFile;

  /** Opens the file for appending. @throws {ConfigError} when it cannot be opened */
  constructor(path: string) {
    this.#file = new AppendFile(path);
  }

  /** Appends one object. @throws {ConfigError} when the disk is full or the file cannot be written */
  append(record: Readonly<Record<string, unknown>>): void {
    const nonFinite = Object.keys(record).filter((key) => typeof record[key] === "number" && !Number.isFinite(record[key]));
    this.#file.append(`${JSON.stringify(nonFinite.length === 0 ? record : { ...record, nonFinite })}\n`);
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
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
