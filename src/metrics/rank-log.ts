import { inspect } from "node:util";
import { Interrupted } from "../errors.ts";
import { AppendFile } from "./append-file.ts";
import { formatName, formatNumber } from "./format.ts";

/**
 * The log of one process for people, each entry with the time (ISO 8601, UTC):
 *
 *     2026-03-01T12:00:00.000Z sft: 25 steps
 *     2026-03-01T12:00:04.103Z step 1  loss 2.134  learning rate 2e-5
 */
export class RankLog {
  readonly #file: AppendFile;

  /** Opens the file for appending. @throws {ConfigError} when it cannot be opened */
  constructor(path: string) {
    this.#file = new AppendFile(path);
  }

  /** Appends all numbers of one step, with four digits. @throws {ConfigError} when the disk is full */
  log(step: number, metrics: Readonly<Record<string, number>>): void {
    this.note([`step ${step}`, ...Object.entries(metrics).map(([name, value]) => `${formatName(name)} ${formatNumber(value)}`)].join("  "));
  }

  /** Appends a line. @throws {ConfigError} when the disk is full */
  note(line: string): void {
    this.#file.append(`${new Date().toISOString()} ${line}\n`);
  }

  /**
   * Appends the error that ended the step, with its stack and causes, or of an `Interrupted` the message.
   *
   * @throws {ConfigError} when the disk is full
   */
  failure(error: unknown): void {
    this.note(error instanceof Interrupted ? error.message : `ended by ${inspect(error)}`);
  }

  /** Closes the file. */
  close(): void {
    this.#file.close();
  }
}
