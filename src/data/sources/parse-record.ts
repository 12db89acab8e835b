import { type DataRecord, fieldError, type Origin, RecordError, type SkippedRecord } from "../records.ts";
import { parseCompletion, parseInstruction } from "./completion.ts";
import { parseMessages, parseText } from "./conversation.ts";
import { parseConversationPair } from "./conversation-pair.ts";
import { parsePreference } from "./preference.ts";
import { describe, isObject, type Row, readPrompt } from "./row.ts";

/** A shape of records that is recognised by its fields, as `tschat data validate` names it. */
export type Shape = keyof typeof PARSERS;

const PARSERS = {
  "prompt, chosen, rejected": parsePreference,
  "chosen, rejected": parseConversationPair,
  "prompt, completion": parseCompletion,
  messages: (row: Row) => parseMessages(row, "messages"),
  conversations: (row: Row) => parseMessages(row, "conversations"),
  "instruction, output": parseInstruction,
  prompt: (row: Row) => ({ kind: "prompt" as const, origin: row.origin, prompt: readPrompt(row) }),
  text: parseText,
} satisfies Record<string, (row: Row) => DataRecord | SkippedRecord>;

/**
 * The record that one line of a data file holds. The line's fields tell its shape; where several fit, the first of these counts:
 *
 *     prompt, chosen, rejected       strings, messages or transcripts
 *     chosen, rejected               whole conversations: transcripts (HH-RLHF) or messages
 *     prompt, completion             strings, messages or transcripts; with label as in TRL's unpaired preferences
 *     messages                       role and content
 *     conversations                  from and value (ShareGPT)
 *     instruction, output            and input (Alpaca)
 *     prompt                         string, messages or transcript
 *     text                           transcript, or text to imitate as a whole
 *
 * `system` adds a system message to any but text. Other fields are not read, and a field that is `null` counts as absent.
 *
 * @throws {RecordError} with file, line and field for a line that is none of these
 */
export function parseRecord(value: unknown, origin: Origin): DataRecord | SkippedRecord {
  return parseRow({ origin, fields: withoutMissing(recordOf(value, origin)) });
}

/** As `parseRecord`, of a row that a field mapping made. @throws {RecordError} */
export function parseRow(row: Row): DataRecord | SkippedRecord {
  const shape = shapeOf(row.fields);
  if (shape !== undefined) return PARSERS[shape](row);
  if (row.fields["rejected"] !== undefined) {
    throw fieldError(row.origin, "chosen", { expected: "the preferred answer", found: "nothing", advice: "add it" });
  }
  throw new RecordError(row.origin, undefined, `expected a known record shape, found ${listFields(row.fields)}; ${advice(row.fields)}`);
}

/** `value`, which must be one JSON object. @throws {RecordError} */
export function recordOf(value: unknown, origin: Origin): Readonly<Record<string, unknown>> {
  if (isObject(value)) return value;
  throw new RecordError(origin, undefined, `expected one JSON object, found ${describe(value)}; write one record per line (JSONL)`);
}

/** `record` without the fields that hold nothing. */
export function withoutMissing(record: Readonly<Record<string, unknown>>): Row["fields"] {
  return Object.fromEntries(Object.entries(record).filter(([, field]) => field !== null && field !== undefined));
}

/** The shape that these fields are read as; undefined if none fits. */
export function shapeOf(fields: Readonly<Record<string, unknown>>): Shape | undefined {
  const has = (name: string): boolean => fields[name] !== undefined && fields[name] !== null;
  if (has("chosen")) return has("prompt") ? "prompt, chosen, rejected" : "chosen, rejected";
  if (has("rejected")) return undefined; // half a pair is a mistake, whatever else fits
  if (has("completion")) return "prompt, completion";
  if (has("messages")) return "messages";
  if (has("conversations")) return "conversations";
  if (has("instruction") && has("output")) return "instruction, output";
  if (has("prompt")) return "prompt";
  return has("text") ? "text" : undefined;
}

/** What other data sets call our fields, most telling first. */
const SYNONYMS = {
  prompt: ["question", "query", "instruction", "input", "problem", "user", "human", "context", "history"],
  chosen: ["preferred", "better", "winner", "positive", "accepted", "chosen_response", "answer_a", "response_a", "response_0"],
  rejected: ["dispreferred", "worse", "loser", "negative", "rejected_response", "answer_b", "response_b", "response_1"],
  completion: ["answer", "response", "output", "solution", "reply", "target", "assistant", "label"],
  messages: ["conversation", "dialogue", "dialog", "chat", "turns"],
  text: ["content", "document", "body"],
} as const;
const SHAPES = [["prompt", "chosen", "rejected"], ["prompt", "completion"], ["messages"], ["text"], ["prompt"]] as const;

/** The nearest shape with the mapping that would make it of these fields. */
function advice(fields: Row["fields"]): string {
  const guesses = Object.entries(SYNONYMS).flatMap(([name, synonyms]) => {
    const near = [name, ...synonyms].map((word) => Object.keys(fields).find((key) => key.toLowerCase() === word));
    const found = near.find((key) => key !== undefined);
    return found === undefined ? [] : [[name, found] as const];
  });
  const guess = new Map<string, string>(guesses);
  const shape = SHAPES.find((names) => names.every((name) => guess.has(name)));
  if (shape === undefined) {
    return 'write "prompt" with "chosen" and "rejected", "prompt" with "completion", "messages", or "prompt" alone, ' +
      "or map the fields, such as --data-fields prompt=question,completion=answer.text";
  }
  const mapping = shape.map((name) => `${name}=${guess.get(name)}`).join(",");
  return `the nearest shape is ${shape.map((name) => `"${name}"`).join(", ")}: map the fields with --data-fields ${mapping}`;
}

function listFields(fields: Row["fields"]): string {
  const names = Object.keys(fields);
  return names.length === 0 ? "no fields" : `the fields ${names.map((name) => `"${name}"`).join(", ")}`;
}
