import { ConfigError } from "../errors.ts";
import { sourceProblem } from "./data-sources.ts";
import { expectedValue, type ConfigOf, type Fields } from "./fields.ts";
import { flagOf } from "./names.ts";
import { coerce, schemaOf } from "./schema.ts";
import type { SettingsFile } from "./settings-file.ts";

/** The settings of one command or step, with what holds between them. */
export interface Settings<F extends Fields, N extends string = string> {
  /** The section in a settings file and the prefix of flags of `tschat train`, such as `ppo`. */
  readonly name: N;
  readonly fields: F;
  /** Values that replace defaults, chosen by the settings that were given. */
  readonly recipe?: (config: ConfigOf<F>) => Partial<ConfigOf<F>>;
  /** Checks across fields. @throws {ConfigError} */
  readonly check?: (config: ConfigOf<F>) => void;
}

/** One source of values. The first layer of a list that has a key decides. */
export interface Layer {
  readonly values: Readonly<Record<string, unknown>>;
  /** How a message names the setting `key` of this layer. */
  readonly label: (key: string) => string;
}

/** Values by flag as the command line gave them: camelCase name -> text, list of texts, or boolean. */
export type Flags = Readonly<Record<string, unknown>>;

/**
 * The configuration from layers, most important first (flags, then a settings file), over the recipe, over the defaults.
 *
 * @throws {ConfigError} naming every missing or wrong value with its source, e.g.
 *   `--gamma: expected a number in [0, 1], got 1.5`
 */
export function resolve<F extends Fields>(settings: Settings<F>, layers: readonly Layer[]): ConfigOf<F> {
  let config = pick(settings.fields, layers);
  const recipe = settings.recipe?.(config);
  if (recipe !== undefined) config = pick(settings.fields, [...layers, { values: recipe, label: flagOf }]);
  settings.check?.(config);
  return config;
}

/**
 * A whole configuration from the values given, for use as a library: the defaults fill in the rest.
 *
 * @throws {ConfigError} as `resolve`
 */
export function completeConfig<F extends Fields>(settings: Settings<F>, values: Partial<ConfigOf<F>>): ConfigOf<F> {
  return resolve(settings, [{ values, label: (key) => key }]);
}

/** The layer of flags: of the command itself, or with `prefix` those of one step of `tschat train`. */
export function flagLayer(flags: Flags, prefix = ""): Layer {
  const entries = Object.entries(flags).filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value]);
  return { values: Object.fromEntries(entries), label: (key) => flagOf(prefix + key) };
}

/** The layers of a settings file for one step: its section, then the values shared by all steps. */
export function fileLayers(file: SettingsFile | undefined, section: string): Layer[] {
  if (file === undefined) return [];
  return [
    { values: file.sections[section] ?? {}, label: (key) => file.label(section, key) },
    { values: file.shared, label: (key) => file.label(key) },
  ];
}

/** A layer cut down to some keys. */
export function onlyKeys(layer: Layer, fields: Fields): Layer {
  return { ...layer, values: Object.fromEntries(Object.entries(layer.values).filter(([key]) => Object.hasOwn(fields, key))) };
}

function pick<F extends Fields>(fields: F, layers: readonly Layer[]): ConfigOf<F> {
  const values: Record<string, unknown> = {};
  const labels: Record<string, string> = {};
  const missing: string[] = [];
  for (const [key, field] of Object.entries(fields)) {
    const layer = layers.find((candidate) => candidate.values[key] !== undefined);
    labels[key] = (layer ?? layers[0])?.label(key) ?? key;
    values[key] = layer === undefined ? field.default : coerce(field, layer.values[key]);
    if (values[key] === undefined && field.isRequired) missing.push(`${labels[key]}: required: ${field.help}`);
  }
  if (missing.length > 0) throw new ConfigError(missing.join("\n"));

  const { error } = schemaOf(fields).safeParse(values);
  if (error === undefined) return values as ConfigOf<F>;
  const wrong = new Set(error.issues.map((issue) => String(issue.path[0])));
  const messages = [...wrong].map((key) => {
    const field = fields[key];
    const value = values[key];
    if (field?.kind === "sources") return `${labels[key]}: ${sourceProblem(value)}`;
    return `${labels[key]}: expected ${field && expectedValue(field)}, got ${typeof value === "number" ? value : JSON.stringify(value)}`;
  });
  throw new ConfigError(messages.join("\n"));
}
