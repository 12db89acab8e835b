/**
 * How a setting is declared: once, as a plain object. The same object yields the TypeScript type (`ConfigOf`), the flag and
 * its help (`command.ts`), the key in a settings file, and the validation (`schema.ts`).
 */

/** What kind of value a field holds. `paths` and `choices` hold lists. */
export type FieldKind = "text" | "path" | "paths" | "integer" | "number" | "choice" | "choices" | "boolean";

/** One setting. `T` is the type of its value and includes `undefined` for an optional one. */
export interface Field<T = unknown> {
  readonly kind: FieldKind;
  /** What the setting does, with its unit; one line without a full stop. */
  readonly help: string;
  /** Placeholder of the value in the help text, such as `<number>`. */
  readonly hint: string;
  /** Undefined for required and optional fields. */
  readonly default: T | undefined;
  readonly isRequired: boolean;
  /** Other names of the flag, without the dashes; most are DeepSpeed-Chat's. */
  readonly aliases: readonly string[];
  /** True for a flag that has no place in a settings file or in a resolved configuration, such as `--force`. */
  readonly flagOnly: boolean;
  /** True when the value cannot change what is trained; a finished step is reused although it differs. */
  readonly neutral: boolean;
  /** Heading in the help text. */
  readonly group: string;
  /** Smallest and largest number allowed. */
  readonly min?: number;
  readonly max?: number;
  /** Numbers must be greater than this. */
  readonly above?: number;
  readonly choices?: readonly string[];
  /** What the value may name on the hub instead of a path here. */
  readonly hub?: "model" | "adapter" | "dataset";
  /** Other spellings of a choice: spelling -> choice. */
  readonly synonyms?: Readonly<Record<string, string>>;
}

/** The settings of a command or step: camelCase name -> field. */
export type Fields = Readonly<Record<string, Field>>;

/** The values that `F` declares, e.g. `{ readonly klCoef: number; readonly maxSteps: number | undefined }`. */
export type ConfigOf<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** What every field may say. A field with neither `default` nor `optional` is required. */
export interface FieldOptions<T> {
  readonly help: string;
  readonly hint?: string;
  readonly default?: T;
  readonly aliases?: readonly string[];
  readonly flagOnly?: boolean;
  readonly neutral?: boolean;
}

/** Bounds of a number; `min` and `max` are allowed values, `above` is not. */
export interface NumberOptions extends FieldOptions<number> {
  readonly min?: number;
  readonly max?: number;
  readonly above?: number;
}

/** Options of a path. */
export interface PathOptions<T> extends FieldOptions<T> {
  readonly hub?: "model" | "adapter" | "dataset";
}

/** Options of a choice. */
export interface ChoiceOptions<T> extends FieldOptions<T> {
  readonly synonyms?: Readonly<Record<string, string>>;
}

interface Optional {
  /** The value is `undefined` when the setting is not given. */
  readonly optional: true;
}

interface Maker<T, O> {
  (options: O & Optional): Field<T | undefined>;
  (options: O): Field<T>;
}

/** Free text. */
export const text: Maker<string, FieldOptions<string>> = (options: FieldOptions<string>) => makeField("text", "<text>", options);

/** A file or folder, relative to the current directory; not empty. */
export const path: Maker<string, PathOptions<string>> = (options: PathOptions<string>) => makeField("path", "<path>", options);

/** One or more files or folders. The flag takes several values and may be repeated. */
export const paths: Maker<readonly string[], PathOptions<readonly string[]>> = (options: PathOptions<readonly string[]>) =>
  makeField("paths", "<paths...>", options);

/** A whole number. */
export const integer: Maker<number, NumberOptions> = (options: NumberOptions) => makeField("integer", "<n>", options);

/** A finite number; `1e-5` is understood in flags and files. */
export const number: Maker<number, NumberOptions> = (options: NumberOptions) => makeField("number", "<number>", options);

/** A switch: `--name` and `--no-name`. */
export const boolean: Maker<boolean, FieldOptions<boolean>> = (options: FieldOptions<boolean>) => makeField("boolean", "", options);

/** One of `values`. */
export function choice<const V extends string>(
  values: readonly V[], options: ChoiceOptions<NoInfer<V>> & Optional,
): Field<V | undefined>;
export function choice<const V extends string>(values: readonly V[], options: ChoiceOptions<NoInfer<V>>): Field<V>;
export function choice<V extends string>(values: readonly V[], options: ChoiceOptions<V>): Field<V> {
  return makeField("choice", `<${values.join("|")}>`, { ...options, choices: values });
}

/** One or more of `values`, as `--name a b` or `--name a,b`. */
export function choices<const V extends string>(
  values: readonly V[], options: ChoiceOptions<readonly NoInfer<V>[]>,
): Field<readonly V[]> {
  return makeField<readonly V[]>("choices", "<names...>", { ...options, choices: values });
}

/** The same fields under a heading of the help text. */
export function group<F extends Fields>(heading: string, fields: F): F {
  const entries = Object.entries(fields).map(([name, field]) => [name, { ...field, group: heading }]);
  return Object.fromEntries(entries) as F;
}

type Declared<T> = FieldOptions<T> & Partial<Optional> & Pick<Field<T>, "choices" | "synonyms" | "min" | "max" | "above" | "hub">;

function makeField<T>(kind: FieldKind, hint: string, { optional, ...options }: Declared<T>): Field<T> {
  return {
    kind,
    hint,
    default: undefined,
    aliases: [],
    flagOnly: false,
    neutral: false,
    group: "Options:",
    ...options,
    isRequired: options.default === undefined && optional !== true,
  };
}

/** What a field accepts, for messages: `a number in [0, 1]`, `one of cosine, linear`. */
export function expectedValue(field: Field): string {
  switch (field.kind) {
    case "text": return "text";
    case "path": return "a path";
    case "paths": return "one or more paths";
    case "choice": return `one of ${field.choices?.join(", ")}`;
    case "choices": return `one or more of ${field.choices?.join(", ")}`;
    case "boolean": return "true or false";
    case "integer": return `a whole number${range(field)}`;
    case "number": return `a number${range(field)}`;
    default: return field.kind satisfies never;
  }
}

function range({ min, max, above }: Field): string {
  if (above !== undefined) return max === undefined ? ` above ${above}` : ` above ${above} and at most ${max}`;
  if (min !== undefined && max !== undefined) return ` in [${min}, ${max}]`;
  if (min !== undefined) return ` of at least ${min}`;
  return max === undefined ? "" : ` of at most ${max}`;
}
