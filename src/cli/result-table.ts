import { formatName, formatNumber, table } from "../metrics/format.ts";

/** The numbers and texts of a step's summary as a table; lists and objects are left to `summary.json`. */
export function resultTable(results: object): string {
  const rows = Object.entries(results).flatMap(([name, value]) => {
    if (typeof value === "number") return [[formatName(name), formatNumber(value)]];
    return typeof value === "string" || typeof value === "boolean" ? [[formatName(name), String(value)]] : [];
  });
  return table(["result", "value"], rows);
}
