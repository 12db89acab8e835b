import { ConfigError } from "../../errors.ts";
import { fieldError, type Origin, type SkippedRecord } from "../records.ts";
import { type Comparison, holds, parseComparison } from "./comparison.ts";
import { evaluate, FieldProblem, type FieldSource, parseFieldSource } from "./field-path.ts";
import { recordOf, withoutMissing } from "./parse-record.ts";
import type { Row, TurnFormat } from "./row.ts";

/** What a mapping may set; the fields of the record shapes, and those from which `chosen` and `rejected` are chosen. */
const TARGETS = [
  "prompt", "system", "completion", "label", "chosen", "rejected", "messages", "text", "answer_a", "answer_b",
] as const;
const CONDITIONS = ["a_wins", "b_wins", "skip_if"] as const;
const TURN_KEYS = ["message.role", "message.content"] as const;
const ROLE = "roles.";

/**
 * A field mapping: what to write -> where it is in the record.
 *
 *     prompt, system, completion, label, chosen, rejected, messages, text     a path, or text with paths in braces
 *     answer_a, answer_b, a_wins, b_wins     two answers and which of them is chosen: a_wins: winner = "model_a"
 *     skip_if                                records to leave out: status = "tie"
 *     message.role, message.content          names in lists of messages
 *     roles.<name>                           system, user or assistant
 */
export type FieldMapping = Readonly<Record<string, string>>;

/** Makes a row of our fields from a record. @throws {RecordError} for a path that is missing */
export type RowMapper = (value: unknown, origin: Origin) => Row | SkippedRecord;

/**
 * The function that a field mapping describes.
 *
 * @throws {ConfigError} naming the key, for one that is unknown, malformed, or contradicts another
 */
export function compileMapping(mapping: FieldMapping): RowMapper {
  checkKeys(mapping);
  const sources = new Map<string, FieldSource>();
  const conditions = new Map<string, Comparison>();
  for (const [key, text] of Object.entries(mapping)) {
    inField(key, () => {
      if (isOneOf(TARGETS, key)) sources.set(key, parseFieldSource(text));
      else if (isOneOf(CONDITIONS, key)) conditions.set(key, parseComparison(text));
    });
  }
  const turns = turnFormat(mapping);
  const names = Object.fromEntries([...sources].map(([key, source]) => [key, "path" in source ? source.path.text : key]));
  return (value, origin) => {
    const record = recordOf(value, origin);
    const take = <T>(key: string, read: () => T): T => withRecord(origin, key, mapping, read);
    const meets = (key: string): boolean => {
      const condition = conditions.get(key);
      return condition !== undefined && take(key, () => holds(record, condition));
    };
    if (meets("skip_if")) return { kind: "skipped", reason: `skip_if: ${mapping["skip_if"]}` };
    const fields: Record<string, unknown> = {};
    for (const [key, source] of sources) fields[key] = take(key, () => evaluate(record, source));
    if (!conditions.has("a_wins")) return { origin, fields: withoutMissing(fields), sources: names, turns };

    const aWins = meets("a_wins");
    if (!aWins && conditions.has("b_wins") && !meets("b_wins")) return { kind: "skipped", reason: "neither answer is preferred" };
    const [better, worse] = aWins ? ["answer_a", "answer_b"] as const : ["answer_b", "answer_a"] as const;
    const { answer_a: _a, answer_b: _b, ...others } = fields;
    const pair = withoutMissing({ ...others, chosen: fields[better], rejected: fields[worse] });
    return { origin, fields: pair, sources: { ...names, chosen: names[better] ?? better, rejected: names[worse] ?? worse }, turns };
  };
}

function checkKeys(mapping: FieldMapping): void {
  const has = (key: string): boolean => Object.hasOwn(mapping, key);
  const known = [...TARGETS, ...CONDITIONS, ...TURN_KEYS];
  for (const key of Object.keys(mapping)) {
    if (isOneOf(known, key)) continue;
    if (key.startsWith(ROLE) && key.length > ROLE.length) continue;
    throw new ConfigError(`fields: "${key}" is unknown; known are ${known.join(", ")} and ${ROLE}<name>`);
  }
  const isPair = has("answer_a") || has("answer_b") || has("a_wins") || has("b_wins");
  if (isPair && !(has("answer_a") && has("answer_b") && has("a_wins"))) {
    throw new ConfigError("fields: expected answer_a, answer_b and a_wins together; they say which of two answers is chosen");
  }
  const rivals = [["answer_a", "chosen"], ["completion", "chosen"], ["completion", "answer_a"], ["messages", "prompt"]] as const;
  for (const [one, other] of rivals) {
    if (has(one) && has(other)) throw new ConfigError(`fields: "${one}" and "${other}" are for different shapes; leave one out`);
  }
  if (!["prompt", "messages", "text", "chosen", "answer_a"].some(has)) {
    throw new ConfigError('fields: expected "prompt", "messages", "text" or "chosen"; nothing else makes a record');
  }
}

function turnFormat(mapping: FieldMapping): TurnFormat {
  const roles = Object.entries(mapping).filter(([key]) => key.startsWith(ROLE))
    .map(([key, role]) => [key.slice(ROLE.length), role] as const);
  for (const [name, role] of roles) {
    if (["system", "user", "assistant"].includes(role)) continue;
    throw new ConfigError(`fields: ${ROLE}${name}: expected system, user or assistant, found "${role}"`);
  }
  return { roleKey: mapping["message.role"], contentKey: mapping["message.content"], roles: Object.fromEntries(roles) };
}

function inField<T>(key: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof ConfigError)) throw cause;
    throw new ConfigError(`fields: ${key}: ${cause.message}`, { cause });
  }
}

function withRecord<T>(origin: Origin, key: string, mapping: FieldMapping, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof FieldProblem)) throw cause;
    const optional = cause.found.startsWith("nothing") ? `, or write ${cause.path}? if it may be missing` : "";
    const advice = `correct the mapping ${key}: ${JSON.stringify(mapping[key])}${optional}`;
    throw fieldError(origin, cause.path, { expected: cause.expected, found: cause.found, advice });
  }
}

function isOneOf<T extends string>(names: readonly T[], name: string): name is T {
  return (names as readonly string[]).includes(name);
}
