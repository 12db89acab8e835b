import { appendFileSync, closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { getSystemErrorMessage } from "node:util";
import { ConfigError } from "../errors.ts";

/**
 * A file that only grows. What is appended is handed to the system at once, so that a process that dies loses nothing; it is
 * not synced to the disk.
 */
export class AppendFile {
  readonly #path: string;
  readonly #file: number;

  /** Opens the file; it and its folder are made if they do not exist. @throws {ConfigError} when that cannot be done */
  constructor(path: string) {
    this.#path = path;
    this.#file = this.#attempt(() => {
      mkdirSync(dirname(path), { recursive: true });
      return openSync(path, "a");
    });
  }

  /** Appends text or bytes. @throws {ConfigError} when the disk is full or the file cannot be written */
  append(data: string | Uint8Array): void {
    this.#attempt(() => appendFileSync(this.#file, data));
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
