import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { didYouMean } from "./names.ts";

/** A source of data in a settings file, where a plain path does not say enough. */
export interface SourceSetting {
  /** A file or a folder. */
  readonly path: string;
  readonly format?: string;
  readonly fields?: Readonly<Record<string, string>>;
  readonly weight?: number;
  readonly steps?: readonly ("sft" | "reward" | "dpo" | "ppo")[];
}

/** Keys of a source, each with its schema and what it expects, for messages. */
const sourceKeys: { readonly [K in keyof Required<SourceSetting>]: readonly [schema: z.ZodType, expected: string] } = {
  path: [z.string().min(1), "a file or folder"],
  format: [z.string().min(1).optional(), "the name of a format"],
  fields: [z.record(z.string(), z.string()).optional(), "names of fields, each with its place in the record"],
  weight: [z.number().positive().optional(), "a number above 0"],
  steps: [z.array(z.enum(["sft", "reward", "dpo", "ppo"])).min(1).optional(), "a list of sft, reward, dpo, ppo"],
};

/** One entry of `data:`. */
export const sourceSchema = z.union([
  z.string().min(1),
  z.strictObject(Object.fromEntries(Object.entries(sourceKeys).map(([key, [schema]]) => [key, schema]))),
]);

/** What is wrong with the value of a setting that holds sources: `entry 2: weight: expected a number above 0, got -1`. */
export function sourceProblem(value: unknown): string {
  const expected = "a file, a folder, or a source with a path";
  if (!Array.isArray(value) || value.length === 0) return `expected one or more files, folders or sources, got ${JSON.stringify(value)}`;
  const index = value.findIndex((entry) => !sourceSchema.safeParse(entry).success);
  const entry: unknown = value[index];
  const where = `entry ${index + 1}`;
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    return `${where}: expected ${expected}, got ${JSON.stringify(entry)}`;
  }
  const unknown = Object.keys(entry).find((key) => !Object.hasOwn(sourceKeys, key));
  if (unknown !== undefined) return `${where}: unknown key "${unknown}"${didYouMean(unknown, Object.keys(sourceKeys))}`;
  for (const [key, [schema, wanted]] of Object.entries(sourceKeys)) {
    const given = (entry as Record<string, unknown>)[key];
    if (schema.safeParse(given).success) continue;
    return `${where}: ${key}: expected ${wanted}, got ${given === undefined ? "nothing" : JSON.stringify(given)}`;
  }
  return `${where}: expected ${expected}`;
}

/**
 * The mapping that a flag writes: `prompt=question,chosen=a.text`. A comma separates where a key follows it, so that texts may
 * hold commas.
 *
 * @throws {ConfigError} for a part without `=`
 */
export function parseMappingFlag(text: string): Record<string, string> {
  const parts = text.split(/,(?=\s*[a-z_]+(?:\.[^\s=,]+)?\s*=)/);
  return Object.fromEntries(parts.map((part) => {
    const equals = part.indexOf("=");
    if (equals > 0) return [part.slice(0, equals).trim(), part.slice(equals + 1).trim()];
    throw new ConfigError(`--data-fields: expected name=path, found ${JSON.stringify(part)}; ` +
      `write for example prompt=question,completion=answer.text`);
  }));
}

/** Flags that say how the records of all sources are written. */
export interface ShapeSettings {
  readonly dataFields?: string | undefined;
  readonly dataFormat?: string | undefined;
}

/**
 * Sources with the mapping and format of the flags, where they have none of their own.
 *
 * @throws {ConfigError} for a mapping that is malformed, and for both flags together
 */
export function withShape(
  data: readonly (string | SourceSetting)[], { dataFields, dataFormat }: ShapeSettings,
): readonly (string | SourceSetting)[] {
  if (dataFields === undefined && dataFormat === undefined) return data;
  if (dataFields !== undefined && dataFormat !== undefined) {
    throw new ConfigError("--data-fields: not beside --data-format, which says where the fields are; give one of them");
  }
  const shape = dataFields === undefined ? { format: dataFormat ?? "" } : { fields: parseMappingFlag(dataFields) };
  return data.map((source) => {
    const entry = typeof source === "string" ? { path: source } : source;
    return entry.fields === undefined && entry.format === undefined ? { ...entry, ...shape } : entry;
  });
}

/**
 * Sources with the weights of `--data-weights`.
 *
 * @throws {ConfigError} unless there is one weight above 0 for each source, and none has another
 */
export function withWeights(
  data: readonly (string | SourceSetting)[], weights: readonly number[] | undefined,
): readonly (string | SourceSetting)[] {
  if (weights === undefined) return data;
  if (weights.length !== data.length) {
    throw new ConfigError(`--data-weights: expected a weight for each of the ${data.length} sources of --data, got ${weights.length}`);
  }
  return data.map((source, i) => {
    const entry = typeof source === "string" ? { path: source } : source;
    if (entry.weight !== undefined) {
      throw new ConfigError(`--data-weights: ${entry.path} has a weight in the settings file (${entry.weight}); give weights in one place`);
    }
    return { ...entry, weight: weights[i]! };
  });
}
