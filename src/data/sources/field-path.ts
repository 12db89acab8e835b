import { ConfigError } from "../../errors.ts";
import { describe, isObject } from "./row.ts";

/** Where a value lies in a record, as written in a field mapping: `answers.0.text`, `turns.-1`; `?` at the end: may be missing. */
export interface FieldPath {
  /** As written, without `?`. */
  readonly text: string;
  readonly keys: readonly string[];
  /** Whether a record may do without it. */
  readonly isOptional: boolean;
}

/** What a field mapping takes from a record: the value at a path, or text with the values of paths in it. */
export type FieldSource = { readonly path: FieldPath } | { readonly parts: readonly (string | FieldPath)[] };

/** Why a record has no value for a path; `expected` and `found` complete "expected ..., found ...". */
export class FieldProblem extends Error {
  readonly path: string;
  readonly expected: string;
  readonly found: string;

  constructor(path: string, expected: string, found: string) {
    super(`${path}: expected ${expected}, found ${found}`);
    this.path = path;
    this.expected = expected;
    this.found = found;
  }
}

/**
 * The path that `text` writes.
 *
 * @throws {ConfigError} for an empty one
 */
export function parsePath(text: string): FieldPath {
  const isOptional = text.endsWith("?");
  const path = isOptional ? text.slice(0, -1) : text;
  const keys = path.split(".");
  if (keys.some((key) => key.trim() === "")) {
    throw new ConfigError(`expected a path such as answers.0.text, found ${JSON.stringify(text)}; put one name or number between dots`);
  }
  return { text: path, keys, isOptional };
}

/**
 * The value at `path`; `null` for an optional one that is missing. A number counts in a list, from its end if it is negative.
 *
 * @throws {FieldProblem} for a path that must be there and is not
 */
export function valueAt(record: Readonly<Record<string, unknown>>, path: FieldPath): unknown {
  // Columns of CSV and Parquet files may have dots in their names.
  if (Object.hasOwn(record, path.text)) return record[path.text];
  let value: unknown = record;
  for (const [depth, key] of path.keys.entries()) {
    const next = child(value, key);
    if (next === undefined) {
      if (path.isOptional) return null;
      throw new FieldProblem(path.text, "a value", `nothing: ${listContents(value, path.keys.slice(0, depth))}`);
    }
    value = next;
  }
  return value;
}

/**
 * Reads `text` of a field mapping: text with paths in braces (`{instruction}\n\n{input?}`), constant text after `=`
 * (`=Answer briefly.`), or a path. A brace that is meant is written twice.
 *
 * @throws {ConfigError} for a brace without its partner, and for an empty path
 */
export function parseFieldSource(text: string): FieldSource {
  if (text.startsWith("=")) return { parts: parseTemplate(text.slice(1)) };
  return /[{}]/.test(text) ? { parts: parseTemplate(text) } : { path: parsePath(text) };
}

/**
 * What `source` gives for a record: the value at its path as it is, or its text without blanks at both ends, so that
 * `{instruction}\n\n{input}` without input is the instruction alone.
 *
 * @throws {FieldProblem} for a path that is missing, or that leads to something that text cannot hold
 */
export function evaluate(record: Readonly<Record<string, unknown>>, source: FieldSource): unknown {
  if ("path" in source) return valueAt(record, source.path);
  return source.parts.map((part) => (typeof part === "string" ? part : asText(valueAt(record, part), part))).join("").trim();
}

function parseTemplate(text: string): (string | FieldPath)[] {
  const parts: (string | FieldPath)[] = [];
  let rest = text;
  while (rest !== "") {
    const [whole = "", literal, escaped, path] = /^(?:([^{}]+)|(\{\{|\}\})|\{([^{}]*)\})/.exec(rest) ?? [];
    if (whole === "") {
      throw new ConfigError(`expected every brace to have its partner, found ${JSON.stringify(rest.slice(0, 40))}; ` +
        "write a path as {answer.text}, and a brace that is meant twice: {{ or }}");
    }
    parts.push(path === undefined ? (literal ?? escaped?.slice(1) ?? "") : parsePath(path.trim()));
    rest = rest.slice(whole.length);
  }
  return parts;
}

function child(value: unknown, key: string): unknown {
  if (Array.isArray(value)) return /^-?\d+$/.test(key) ? value.at(Number(key)) : undefined;
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}

function asText(value: unknown, path: FieldPath): string {
  if (value === null) return "";
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return String(value);
  throw new FieldProblem(path.text, "text or a number", describe(value));
}

/** `the record has "question", "answer"`, `answers has 2 entries`. */
function listContents(value: unknown, keys: readonly string[]): string {
  const what = keys.length === 0 ? "the record" : `"${keys.join(".")}"`;
  if (Array.isArray(value)) return `${what} is a list with ${value.length} ${value.length === 1 ? "entry" : "entries"}`;
  if (!isObject(value)) return `${what} is ${describe(value)}`;
  const names = Object.keys(value);
  return names.length === 0 ? `${what} is empty` : `${what} has ${names.map((name) => `"${name}"`).join(", ")}`;
}
