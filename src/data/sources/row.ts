import type { Message } from "../../tokenizer/message.ts";
import { fieldError, type Origin, type RecordError } from "../records.ts";
import { isTranscript, parseTranscript } from "./transcript.ts";

/** The JSON object of one line. A field whose value is `null` counts as absent and is not in `fields`. */
export interface Row {
  readonly origin: Origin;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Where a field mapping took a field from, for messages: field -> path in the record. */
  readonly sources?: Readonly<Record<string, string>>;
  /** How messages are written; found out from each list if not given. */
  readonly turns?: TurnFormat;
}

/** Names in a list of messages. */
export interface TurnFormat {
  readonly roleKey?: string | undefined;
  readonly contentKey?: string | undefined;
  /** Further names of the roles: name in the record -> role. */
  readonly roles: Readonly<Record<string, string>>;
}

const ROLES = ["system", "user", "assistant"] as const;
/** What other programs call the roles: OpenAI's newer models, and ShareGPT. */
const OTHER_ROLES: Readonly<Record<string, Record<string, Message["role"]>>> = {
  role: { developer: "system" },
  from: { human: "user", gpt: "assistant" },
};

/**
 * The dialogue in `row.fields.prompt`: messages, a transcript, or a plain string, which is one user message. The text of the
 * field `system`, if there is one, comes first.
 *
 * @throws {ConfigError} unless it ends with a message of the user (in a transcript, an open "Assistant:" may follow)
 */
export function readPrompt(row: Row): Message[] {
  const prompt = withSystem(row, readDialogue(row, "prompt") ?? [{ role: "user" as const, content: readText(row, "prompt") }]);
  const last = prompt.at(-1);
  if (last?.role === "user") return prompt;
  // A transcript that waits for its answer ends with an assistant turn that has no text yet.
  if (last?.role === "assistant" && last.content === "" && prompt.at(-2)?.role === "user") return prompt.slice(0, -1);
  throw rowError(row, "prompt", {
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
  const given = readDialogue(row, field);
  if (given === undefined) {
    const text = readText(row, field);
    return isTranscript(row.fields["prompt"]) ? text.trim() : text;
  }
  const dialogue = withSystem(row, given);
  const isWhole = dialogue.length > prompt.length && prompt.every((message, i) => isSameMessage(message, dialogue[i]));
  const rest = isWhole ? dialogue.slice(prompt.length) : given;
  const [answer] = rest;
  if (rest.length === 1 && answer?.role === "assistant") return requireText(row, field, answer.content);
  throw rowError(row, field, {
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
 * The messages in the list `row.fields[field]`: objects with `role` and `content`, or with `from` and `value` as in ShareGPT.
 *
 * @throws {ConfigError} naming the message and its field
 */
export function readMessages(row: Row, field: string): Message[] {
  return readList(row, field).map((value, i) => {
    const message = requireObject(row, `${field}[${i}]`, value);
    const roleKey = row.turns?.roleKey ?? (message["role"] === undefined && message["from"] !== undefined ? "from" : "role");
    const contentKey = row.turns?.contentKey ?? (roleKey === "from" ? "value" : "content");
    const others = { ...OTHER_ROLES[roleKey], ...row.turns?.roles };
    const named = message[roleKey];
    const role = typeof named === "string" && Object.hasOwn(others, named) ? others[named] : named;
    return readMessage(row, { role: `${field}[${i}].${roleKey}`, content: `${field}[${i}].${contentKey}` },
      { role, content: message[contentKey] }, Object.keys(others));
  });
}

function readMessage(
  row: Row, fields: { role: string; content: string }, value: { role: unknown; content: unknown }, otherRoles: readonly string[],
): Message {
  const role = ROLES.find((name) => name === value.role);
  if (role === undefined) {
    throw rowError(row, fields.role, {
      expected: `one of ${[...ROLES, ...otherRoles.filter((name) => name !== "developer")].join(", ")}`,
      found: typeof value.role === "string" ? `"${value.role}"` : describe(value.role),
      advice: "correct it, remove the record, or map it (roles.<name>: user)",
    });
  }
  const content = joinParts(row, fields.content, value.content);
  // Only a system message may be blank.
  return { role, content: role === "system" && typeof content === "string" ? content : requireText(row, fields.content, content) };
}

/** OpenAI's content parts as one text; anything else is returned as it is. */
function joinParts(row: Row, field: string, content: unknown): unknown {
  if (!Array.isArray(content) || content.length === 0) return content;
  return content.map((part, i) => {
    if (typeof part === "string") return part;
    const { type, text } = requireObject(row, `${field}[${i}]`, part);
    if (type === "text" && typeof text === "string") return text;
    throw rowError(row, `${field}[${i}]`, {
      expected: 'a part with "type": "text"',
      found: typeof type === "string" ? `one with "type": "${type}"` : "one without it",
      advice: "tschat trains on text; remove the record",
    });
  }).join("");
}

/** `messages` after the text of the row's field `system`, unless that is blank or they begin with a system message. */
export function withSystem(row: Row, messages: Message[]): Message[] {
  const system = row.fields["system"];
  if (system === undefined || (typeof system === "string" && system.trim() === "")) return messages;
  if (messages[0]?.role === "system") return messages;
  return [{ role: "system", content: requireText(row, "system", system) }, ...messages];
}

/** The text of `row.fields[field]`. @throws {ConfigError} if it is blank or no text */
export function readText(row: Row, field: string): string {
  return requireText(row, field, row.fields[field]);
}

/** The error for a field of a row; a mapped field is called by the path that it was taken from. */
export function rowError(row: Row, field: string, text: { expected: string; found: string; advice: string }): RecordError {
  const [name = field] = /^[^.[]+/.exec(field) ?? [];
  const source = row.sources?.[name];
  return fieldError(row.origin, source === undefined ? field : source + field.slice(name.length), text);
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

/** The entries of the list `row.fields[field]`, at least one. */
function readList(row: Row, field: string): unknown[] {
  const value = row.fields[field];
  if (Array.isArray(value) && value.length > 0) return value;
  throw rowError(row, field, {
    expected: "a list of messages",
    found: Array.isArray(value) ? "an empty list" : describe(value),
    advice: 'write [{"role": "user", "content": "..."}, ...]',
  });
}

function requireObject(row: Row, field: string, value: unknown): Record<string, unknown> {
  if (isObject(value)) return value;
  throw rowError(row, field, { expected: "an object", found: describe(value), advice: "write one object per message" });
}

function requireText(row: Row, field: string, value: unknown): string {
  if (typeof value === "string" && value.trim() !== "") return value;
  throw rowError(row, field, { expected: "text", found: describe(value), advice: "write it or remove the record" });
}

function isSameMessage(a: Message, b: Message | undefined): boolean {
  return a.role === b?.role && a.content === b.content;
}
