import { Writable } from "node:stream";
import type { TextOutput } from "../../src/cli/terminal-text.ts";

/** An output that keeps what is written; a terminal of `columns` columns, with or without colours, or no terminal. */
export class KeptOutput extends Writable implements TextOutput {
  readonly isTTY: boolean;
  readonly columns: number;
  readonly #hasColors: boolean;
  text = "";

  constructor({ columns, hasColors = false }: { columns?: number; hasColors?: boolean } = {}) {
    super({
      write: (chunk: Buffer, _, done) => {
        this.text += chunk.toString();
        done();
      },
    });
    this.isTTY = columns !== undefined;
    this.columns = columns ?? 0;
    this.#hasColors = hasColors;
  }

  hasColors(): boolean {
    return this.#hasColors;
  }
}
