import { z } from "zod";
import { sourceSchema } from "./data-sources.ts";
import type { Field, Fields } from "./fields.ts";

/**
 * The zod schema of a set of fields, after defaults: required and defaulted fields must be there, optional ones may be
 * undefined, and no other key is allowed.
 */
export function schemaOf(fields: Fields): z.ZodObject {
  const shape = Object.entries(fields).map(([name, field]) => {
    const schema = valueSchema(field);
    return [name, field.default === undefined && !field.isRequired ? schema.optional() : schema] as const;
  });
  return z.strictObject(Object.fromEntries(shape));
}

function valueSchema(field: Field): z.ZodType {
  switch (field.kind) {
    case "text": return z.string();
    case "path": return z.string().min(1);
    case "paths": return z.array(z.string().min(1)).min(1);
    case "sources": return z.array(sourceSchema).min(1);
    case "choice": return z.enum([...(field.choices ?? [])]);
    case "choices": return z.array(z.enum([...(field.choices ?? [])])).min(1);
    case "boolean": return z.boolean();
    case "integer": return bounded(z.int(), field);
    case "number": return bounded(z.number(), field);
    case "numbers": return z.array(bounded(z.number(), field)).min(1);
    default: return field.kind satisfies never;
  }
}

function bounded(schema: z.ZodNumber, { min, max, above }: Field): z.ZodNumber {
  let result = schema;
  if (min !== undefined) result = result.gte(min);
  if (max !== undefined) result = result.lte(max);
  if (above !== undefined) result = result.gt(above);
  return result;
}

const numeral = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/**
 * The value that the text of a flag, or a value of a settings file, stands for: `"1e-5"` for a number is 0.00001, a synonym is
 * its choice, one path is a list of one. What stands for nothing is returned as it is, for the schema to refuse.
 */
export function coerce(field: Field, raw: unknown): unknown {
  switch (field.kind) {
    case "integer":
    case "number": return typeof raw === "string" && numeral.test(raw.trim()) ? Number(raw) : raw;
    case "numbers": {
      const items: readonly unknown[] = Array.isArray(raw) ? raw : [raw];
      const parts = items.flatMap((item) => (typeof item === "string" ? item.split(",") : [item]));
      return parts.map((part) => coerce({ ...field, kind: "number" }, part));
    }
    case "choice": return typeof raw === "string" ? choiceOf(field, raw) : raw;
    case "choices": {
      const items: readonly unknown[] = Array.isArray(raw) ? raw : [raw];
      return items.flatMap((item) => String(item).split(",")).map((name) => choiceOf(field, name));
    }
    case "paths": return typeof raw === "string" ? [raw] : raw;
    case "sources": return Array.isArray(raw) ? raw : [raw];
    default: return raw;
  }
}

function choiceOf({ synonyms }: Field, name: string): string {
  return synonyms !== undefined && Object.hasOwn(synonyms, name) ? (synonyms[name] ?? name) : name;
}
