import { formatNumber } from "../metrics/format.ts";
import { visible, widthOf, wrap } from "./terminal-text.ts";

/** Kinds that are told apart; a file of nothing but different mistakes must not fill the memory. */
const MAX_KINDS = 1000;
const OTHERS = "others";

/** Counts by kind, each with the place where it came first. */
export class Tally {
  readonly #counts = new Map<string, { count: number; first: string }>();

  add(kind: string, where: string): void {
    const known = this.#counts.has(kind) || this.#counts.size < MAX_KINDS ? kind : OTHERS;
    const entry = this.#counts.get(known);
    if (entry === undefined) this.#counts.set(known, { count: 1, first: where });
    else entry.count++;
  }

  /** Number of kinds. */
  get size(): number {
    return this.#counts.size;
  }

  /** How often a kind occurred. */
  count(kind: string): number {
    return this.#counts.get(kind)?.count ?? 0;
  }

  /** A line for each kind, the most frequent first: `   2,309  chosen, rejected   first: pairs.jsonl:1`. */
  lines(columns: number): string[] {
    const entries = [...this.#counts].sort(([, a], [, b]) => b.count - a.count);
    const counts = entries.map(([, { count }]) => formatNumber(count));
    const width = Math.max(6, ...counts.map((count) => count.length));
    return entries.map(([kind, { first }], i) => {
      const where = `first: ${visible(first)}`;
      const room = columns - width - 4;
      const text = visible(kind);
      const isOneLine = widthOf(text) + widthOf(where) + 3 <= room;
      const lines = isOneLine ? [`${text}   ${where}`] : [...wrap([{ text, paint: (line) => line }], room), where];
      return `  ${(counts[i] ?? "").padStart(width)}  ${lines.join(`\n${" ".repeat(width + 4)}`)}`;
    });
  }
}
