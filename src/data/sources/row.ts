import type { Message } from "../../tokenizer/message.ts";
import { fieldError, type Origin } from "../records.ts";
import { isTranscript, parseTranscript } from "./transcript.ts";

/** The JSON object of one line. A field whose value is `null` counts as absent and is not in `fields`. */
export interface Row {
  readonly origin: Origin;
  readonly fields: Readonly<Record<string, unknown>>;
}

const ROLES = ["system", "user", "assistant"] as const;

/**
 * The dialogue in `row.fields.prompt`: messages, a transcript, or a plain string, which is one user message.
 *
 * @throws {ConfigError} unless it ends with a message of the user (in a transcript, an open "Assistant:" may follow)
 */
export function readPrompt(row: Row): Message[] {
  const prompt = readDialogue(row, "prompt") ?? [{ role: "user" as const, content: readText(row, "prompt") }];
  const last = prompt.at(-1);
  if (last?.role === "user") return prompt;
  // A transcript that waits for its answer ends with an assistant turn that has no text yet.
  if (last?.role === "assistant" && last.content === "" && prompt.at(-2)?.role === "user") return prompt.slice(0, -1);
  throw fieldError(row.origin, "prompt", {
    expected: "the last message to be the user's",
    found: last === undefined ? "no message" : `one with role "${last.role}"`,
    advice: "move the answer into its own field",
  });
}

/**
 * The answer in `row.fields[field]`: text, or one assistant message; either may come as a whole conversation that starts with `prompt`.
 * Text after a transcript prompt loses the blanks around it, as the turns of a transcript do; other text is taken as it is.
 *
 * @throws {ConfigError} if it is blank, or a conversation that is not `prompt` and one assistant message
 */
export function readAnswer(row: Row, field: string, prompt: readonly Message[]): string {
  const dialogue = readDialogue(row, field);
  if (dialogue === undefined) {
    const text = readText(row, field);
    return isTranscript(row.fields.prompt) ? text.trim() : text;
  }
  const isWhole = dialogue.length > prompt.length && prompt.every((message, i) => isSameMessage(message, dialogue[i]));
  const rest = isWhole ? dialogue.slice(prompt.length) : dialogue;
  const [answer] = rest;
  if (rest.length === 1 && answer?.role === "assistant") return requireText(row, field, answer.content);
  throw fieldError(row.origin, field, {
    expected: "one assistant message, alone or after the messages of the prompt",
    found: `messages with roles ${rest.map((message) => message.role).join(", ")}${isWhole ? " after the prompt" : ""}`,
    advice: 'put every message before the answer into "prompt"',
  });
}

/** The messages in `row.fields[field]`, if it is a list of messages or a transcript; `undefined` for anything else. */
export function readDialogue(row: Row, field: string): Message[] | undefined {
  const value = row.fields[field];
  if (isTranscript(value)) return parseTranscript(value);
  return Array.isArray(value) ? readMessages(row, field) : undefined;
}

/**
 * The messages in the list `row.fields[field]`.
 *
 * @throws {ConfigError} naming the message and its field
 */
export function readMessages(row: Row, field: string): Message[] {
  return readList(row, field).map((value, i) => {
    const message = requireObject(row, `${field}[${i}]`, value);
    const role = requireChoice(row, `${field}[${i}].role`, message.role, ROLES);
    return { role, content: requireContent(row, `${field}[${i}].content`, role, message.content) };
  });
}

/** The entries of the list `row.fields[field]`, at least one. */
export function readList(row: Row, field: string): unknown[] {
  const value = row.fields[field];
  if (Array.isArray(value) && value.length > 0) return value;
  throw fieldError(row.origin, field, {
    expected: "a list of messages",
    found: Array.isArray(value) ? "an empty list" : describe(value),
    advice: 'write [{"role": "user", "content": "..."}, ...]',
  });
}

/** The text of a message; only a system message may be blank. */
export function requireContent(row: Row, field: string, role: Message["role"], value: unknown): string {
  return role === "system" && typeof value === "string" ? value : requireText(row, field, value);
}

/** `value`, which must be an object; `field` is its name in messages. */
export function requireObject(row: Row, field: string, value: unknown): Record<string, unknown> {
  if (isObject(value)) return value;
  throw fieldError(row.origin, field, { expected: "an object", found: describe(value), advice: "write one object per message" });
}

/** `value`, which must be one of `choices`. */
export function requireChoice<const T extends string>(row: Row, field: string, value: unknown, choices: readonly T[]): T {
  const choice = choices.find((name) => name === value);
  if (choice !== undefined) return choice;
  const found = typeof value === "string" ? `"${value}"` : describe(value);
  throw fieldError(row.origin, field, { expected: `one of ${choices.join(", ")}`, found, advice: "correct it or remove the record" });
}

/** Whether `value` is a JSON object: no list, no `null`. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What kind of JSON value `value` is, with its article: "a number", "a list", "nothing". */
export function describe(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (typeof value === "string") return value.trim() === "" ? "blank text" : "text";
  if (Array.isArray(value)) return "a list";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

function readText(row: Row, field: string): string {
  return requireText(row, field, row.fields[field]);
}

function requireText(row: Row, field: string, value: unknown): string {
  if (typeof value === "string" && value.trim() !== "") return value;
  throw fieldError(row.origin, field, { expected: "text", found: describe(value), advice: "write it or remove the record" });
}

function isSameMessage(a: Message, b: Message | undefined): boolean {
  return a.role === b?.role && a.content === b.content;
}
