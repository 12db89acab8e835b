import { ConfigError } from "../../errors.ts";
import { type FieldPath, FieldProblem, parsePath, valueAt } from "./field-path.ts";
import { describe } from "./row.ts";

/** A condition on a record, such as `score_0 >= score_1` or `winner = "model_a"`. */
export interface Comparison {
  readonly left: FieldPath;
  readonly operator: keyof typeof OPERATORS;
  readonly right: FieldPath | { readonly constant: string | number | boolean };
}

const OPERATORS = {
  "=": (a: unknown, b: unknown) => a === b,
  "!=": (a: unknown, b: unknown) => a !== b,
  ">=": (a: unknown, b: unknown) => Number(a) >= Number(b),
  "<=": (a: unknown, b: unknown) => Number(a) <= Number(b),
  ">": (a: unknown, b: unknown) => Number(a) > Number(b),
  "<": (a: unknown, b: unknown) => Number(a) < Number(b),
};

/**
 * Reads a comparison: a path, one of `= != < <= > >=`, and a path, a number, `true`, `false` or text in double quotes.
 *
 * @throws {ConfigError} for anything else
 */
export function parseComparison(text: string): Comparison {
  const [, left, operator, right] = /^\s*([^\s=!<>"]+)\s*(>=|<=|!=|=|>|<)\s*("[^"]*"|[^\s=!<>"]+)\s*$/.exec(text) ?? [];
  if (left === undefined || operator === undefined || right === undefined) {
    throw new ConfigError(`expected a comparison such as score_a > score_b or winner = "model_a", found ${JSON.stringify(text)}`);
  }
  return { left: parsePath(left), operator: operator as Comparison["operator"], right: parseOperand(right) };
}

/**
 * Whether `record` meets `comparison`. A number may be written as text in the record.
 *
 * @throws {FieldProblem} for a path that is missing, and for `<` and its like on what is no number
 */
export function holds(record: Readonly<Record<string, unknown>>, { left, operator, right }: Comparison): boolean {
  const a = valueAt(record, left);
  const b = "constant" in right ? right.constant : valueAt(record, right);
  const isOrder = operator !== "=" && operator !== "!=";
  if (isOrder) {
    checkNumber(left.text, a);
    if (!("constant" in right)) checkNumber(right.text, b);
  }
  const areNumbers = typeof a === "number" || typeof b === "number";
  return areNumbers && isNumeric(a) && isNumeric(b) ? OPERATORS[operator](Number(a), Number(b)) : OPERATORS[operator](a, b);
}

function parseOperand(text: string): Comparison["right"] {
  if (text.startsWith('"')) return { constant: text.slice(1, -1) };
  if (text === "true" || text === "false") return { constant: text === "true" };
  return isNumeric(text) ? { constant: Number(text) } : parsePath(text);
}

function isNumeric(value: unknown): boolean {
  return typeof value === "number" || (typeof value === "string" && value.trim() !== "" && Number.isFinite(Number(value)));
}

function checkNumber(path: string, value: unknown): void {
  if (!isNumeric(value)) throw new FieldProblem(path, "a number", describe(value));
}
