import Table from "cli-table3";

/** One measured row. A name says its unit: `...Bytes`, `...PerSecond`, `...Ratio`; `share...` and `...Share` are in [0, 1]. */
export type Row = Readonly<Record<string, string | number>>;

/** What all rows of a run have in common. */
export type RunFacts = Readonly<{ bench: string; dtype: string; threads: number }> & Row;

/** Prints rows: as JSON lines at once, or as one table when all are there. */
export class Report {
  readonly #facts: RunFacts;
  readonly #isJson: boolean;
  readonly #rows: Row[] = [];

  constructor(facts: RunFacts, isJson: boolean) {
    this.#facts = facts;
    this.#isJson = isJson;
  }

  add(row: Row): void {
    const rounded = Object.fromEntries(Object.entries(row).map(([key, value]) => [key, typeof value === "number" ? round(value) : value]));
    if (this.#isJson) process.stdout.write(`${JSON.stringify({ ...this.#facts, ...rounded })}\n`);
    else this.#rows.push(rounded);
  }

  /** Prints the table, unless the rows are printed already. */
  end(): void {
    if (this.#isJson) return;
    const { bench, ...facts } = this.#facts;
    const title = Object.entries(facts).map(([key, value]) => `${titleOf(key)} ${value}`).join(", ");
    process.stdout.write(`${bench}: ${title}\n${tableOf(this.#rows)}\n`);
  }
}

/** Rows with more columns than there are rows lie on their side, so that the table fits a terminal. */
export function tableOf(rows: readonly Row[]): string {
  const keys = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const style = { style: { head: [], border: [], compact: true } };
  if (rows.length < keys.length) {
    const table = new Table(style);
    for (const key of keys) table.push([titleOf(key), ...rows.map((row) => cell(key, row[key]))]);
    return table.toString();
  }
  const table = new Table({ ...style, head: keys.map(titleOf) });
  for (const row of rows) table.push(keys.map((key) => cell(key, row[key])));
  return table.toString();
}

/** `decodeTokensPerSecond` -> `decode tokens per second`. */
function titleOf(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

function cell(key: string, value: string | number | undefined): { content: string; hAlign: "left" | "right" } {
  if (typeof value !== "number") return { content: value ?? "", hAlign: "left" };
  const content = /^share|Share$/.test(key) ? `${(100 * value).toFixed(1)}%`
    : key.endsWith("Bytes") ? `${Number((value / 1e6).toPrecision(4))} MB`
    : key.endsWith("Ratio") ? `${value.toFixed(2)}x`
    : String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  return { content, hAlign: "right" };
}

/** Five digits say more than any of these measurements can be repeated to. */
function round(value: number): number {
  return Number.isInteger(value) ? value : Number(value.toPrecision(5));
}
