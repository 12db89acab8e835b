import { readFile } from "node:fs/promises";
import { getSystemErrorMessage } from "node:util";
import { isMap, isScalar, LineCounter, parseDocument, stringify, type Document } from "yaml";
import { ConfigError } from "../errors.ts";
import type { ConfigOf, Fields } from "./fields.ts";
import { didYouMean } from "./names.ts";

/** What a settings file may hold: shared fields at the top level and one section per step. */
export interface SettingsLayout {
  readonly shared: Fields;
  readonly sections: Readonly<Record<string, Fields>>;
}

/** A settings file whose keys are known; the values are not checked yet. */
export interface SettingsFile {
  readonly shared: Readonly<Record<string, unknown>>;
  readonly sections: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** `train.yaml:4: ppo.klCoef`, for messages. */
  readonly label: (...keys: string[]) => string;
}

/**
 * Reads a YAML settings file, for example
 *
 *     model: SmolLM2-135M-Instruct     # shared by all steps
 *     ppo:
 *       klCoef: 0.1
 *
 * @throws {ConfigError} naming the file and the line when it cannot be read, is not YAML, or has a key that `layout` lacks
 */
export async function readSettings(path: string, layout: SettingsLayout): Promise<SettingsFile> {
  const lines = new LineCounter();
  const document = parseDocument(await readText(path), { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (problem !== undefined) throw new ConfigError(`${path}:${lines.linePos(problem.pos[0]).line}: not valid YAML: ${problem.message}`);
  const label = (...keys: string[]): string => `${path}:${lineOf(document, lines, keys)}: ${keys.join(".")}`;

  const top = mapping(document.toJS(), () => `${path}: the file`);
  const shared: Record<string, unknown> = {};
  const sections: Record<string, Record<string, unknown>> = {};
  for (const [key, value] of Object.entries(top)) {
    const fields = Object.hasOwn(layout.sections, key) ? layout.sections[key] : undefined;
    if (fields === undefined) {
      checkKey(key, [...keysOf(layout.shared), ...Object.keys(layout.sections)], () => label(key));
      shared[key] = value;
    } else {
      sections[key] = mapping(value ?? {}, () => label(key));
      for (const inner of Object.keys(sections[key])) checkKey(inner, keysOf(fields), () => label(key, inner));
    }
  }
  return { shared, sections, label };
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const words = cause instanceof Error && "errno" in cause ? getSystemErrorMessage(Number(cause.errno)) : String(cause);
    throw new ConfigError(`could not read the settings file ${path}: ${words}`, { cause });
  }
}

function mapping(value: unknown, label: () => string): Record<string, unknown> {
  if (value === null) return {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new ConfigError(`${label()}: expected settings as "name: value", got ${JSON.stringify(value)}`);
}

function keysOf(fields: Fields): string[] {
  return Object.entries(fields).filter(([, field]) => !field.flagOnly).map(([key]) => key);
}

function checkKey(key: string, known: readonly string[], label: () => string): void {
  if (!known.includes(key)) throw new ConfigError(`${label()}: unknown setting${didYouMean(key, known)}`);
}

/** The line, counted from 1, on which the key at this path stands. */
function lineOf(document: Document, lines: LineCounter, keys: readonly string[]): number {
  const map = keys.length > 1 ? document.getIn(keys.slice(0, -1), true) : document.contents;
  const pair = isMap(map) ? map.items.find((item) => isScalar(item.key) && String(item.key.value) === keys.at(-1)) : undefined;
  const offset = isScalar(pair?.key) ? pair.key.range?.[0] : undefined;
  return lines.linePos(offset ?? 0).line;
}

/** The values that a settings file can hold: those of `config` but the ones left undefined and the flag-only ones. */
export function savedValues<F extends Fields>(fields: F, config: ConfigOf<F>): Record<string, unknown> {
  const values: Readonly<Record<string, unknown>> = config;
  const kept = Object.entries(fields).filter(([key, field]) => !field.flagOnly && values[key] !== undefined);
  return Object.fromEntries(kept.map(([key]) => [key, values[key]]));
}

/**
 * A resolved configuration as a settings file: top-level values and sections (values that are objects). Read back with
 * `--config` it gives the same configuration.
 */
export function resolvedYaml(settings: Readonly<Record<string, unknown>>): string {
  const title = "# All settings of this run. To run it again: the same command with --config and this file.";
  return `${title}\n${stringify(settings, { lineWidth: 0 })}`;
}
