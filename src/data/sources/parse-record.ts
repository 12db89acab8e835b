import { ConfigError } from "../../errors.ts";
import { type DataRecord, fieldError, type Origin, type SkippedRecord } from "../records.ts";
import { parseCompletion } from "./completion.ts";
import { parseMessages, parseShareGpt } from "./conversation.ts";
import { parseConversationPair } from "./conversation-pair.ts";
import { parsePreference } from "./preference.ts";
import { describe, isObject, type Row, readPrompt } from "./row.ts";

/**
 * The record that one line of a data file holds. The line's fields tell its shape; where several fit, the first of these counts:
 *
 *     prompt, chosen, rejected       strings, messages or transcripts
 *     chosen, rejected               whole conversations: transcripts (HH-RLHF) or messages
 *     prompt, completion             strings, messages or transcripts
 *     messages                       role and content
 *     conversations                  from and value (ShareGPT)
 *     prompt                         string, messages or transcript
 *
 * Other fields are not read, and a field that is `null` counts as absent.
 *
 * @throws {ConfigError} with file, line and field for a line that is none of these
 */
export function parseRecord(value: unknown, origin: Origin): DataRecord | SkippedRecord {
  if (!isObject(value)) {
    throw new ConfigError(`${origin.path}:${origin.line}: expected one JSON object, found ${describe(value)}; ` +
      "write one record per line (JSONL)");
  }
  const fields = Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null));
  const row: Row = { origin, fields };
  const has = (name: string) => name in fields;
  if (has("chosen")) return has("prompt") ? parsePreference(row) : parseConversationPair(row);
  if (has("rejected")) throw fieldError(origin, "chosen", { expected: "the preferred answer", found: "nothing", advice: "add it" });
  if (has("completion")) return parseCompletion(row);
  if (has("messages")) return parseMessages(row);
  if (has("conversations")) return parseShareGpt(row);
  if (has("prompt")) return { kind: "prompt", origin, prompt: readPrompt(row) };
  throw new ConfigError(`${origin.path}:${origin.line}: expected a known record shape, found ${listFields(fields)}; ` +
    'write "prompt" with "chosen" and "rejected", "prompt" with "completion", "messages", or "prompt" alone');
}

function listFields(fields: Row["fields"]): string {
  const names = Object.keys(fields);
  return names.length === 0 ? "no fields" : `the fields ${names.map((name) => `"${name}"`).join(", ")}`;
}
