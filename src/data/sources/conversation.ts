import type { Message } from "../../tokenizer/message.ts";
import { type DataRecord, fieldError } from "../records.ts";
import { type Row, readList, readMessages, requireChoice, requireContent, requireObject } from "./row.ts";

const ROLE_OF_SPEAKER = { system: "system", human: "user", user: "user", gpt: "assistant", assistant: "assistant" } as const;
const SPEAKERS = Object.keys(ROLE_OF_SPEAKER) as (keyof typeof ROLE_OF_SPEAKER)[];

/**
 * The shape `messages`: a demonstration of every assistant turn, or a prompt if the user has the last word.
 *
 *     {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
 */
export function parseMessages(row: Row): DataRecord {
  return fromConversation(row, "messages", readMessages(row, "messages"));
}

/**
 * The shape `conversations` of ShareGPT, with `from` and `value`; otherwise as `messages`.
 *
 *     {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}
 */
export function parseShareGpt(row: Row): DataRecord {
  const messages = readList(row, "conversations").map((value, i): Message => {
    const turn = requireObject(row, `conversations[${i}]`, value);
    const role = ROLE_OF_SPEAKER[requireChoice(row, `conversations[${i}].from`, turn.from, SPEAKERS)];
    return { role, content: requireContent(row, `conversations[${i}].value`, role, turn.value) };
  });
  return fromConversation(row, "conversations", messages);
}

function fromConversation(row: Row, field: string, messages: Message[]): DataRecord {
  const { origin } = row;
  const last = messages.at(-1);
  if (last?.role === "user") return { kind: "prompt", origin, prompt: messages };
  const prompt = messages.slice(0, -1);
  if (last?.role === "assistant" && prompt.at(-1)?.role === "user") {
    return { kind: "demonstration", origin, prompt, answer: last.content, trainedTurns: "all" };
  }
  throw fieldError(row.origin, field, {
    expected: "an end with a user message, or with a user message and its answer",
    found: `an end with roles ${messages.slice(-2).map((message) => message.role).join(", ")}`,
    advice: "complete the conversation or remove the record",
  });
}
