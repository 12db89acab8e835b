import type { Message } from "../../tokenizer/message.ts";
import type { DataRecord } from "../records.ts";
import { type Row, readMessages, readText, rowError, withSystem } from "./row.ts";
import { isTranscript, parseTranscript } from "./transcript.ts";

/**
 * The shapes `messages` and `conversations` (ShareGPT): a demonstration of every assistant turn, or a prompt if the user has the
 * last word.
 *
 *     {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}
 *     {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}
 */
export function parseMessages(row: Row, field: "messages" | "conversations"): DataRecord {
  return fromConversation(row, field, withSystem(row, readMessages(row, field)));
}

/**
 * The shape `text`: a transcript, read as a conversation, or text to imitate as a whole, without a chat template.
 *
 *     {"text": "The sky is blue."}
 */
export function parseText(row: Row): DataRecord {
  const text = readText(row, "text");
  if (isTranscript(text)) return fromConversation(row, "text", withSystem(row, parseTranscript(text)));
  return { kind: "demonstration", origin: row.origin, prompt: "", answer: text, trainedTurns: "all" };
}

function fromConversation(row: Row, field: string, messages: Message[]): DataRecord {
  const { origin } = row;
  const last = messages.at(-1);
  if (last?.role === "user") return { kind: "prompt", origin, prompt: messages };
  const prompt = messages.slice(0, -1);
  if (last?.role === "assistant" && prompt.at(-1)?.role === "user") {
    // Only a transcript may have an open last turn.
    if (last.content === "") return { kind: "prompt", origin, prompt };
    return { kind: "demonstration", origin, prompt, answer: last.content, trainedTurns: "all" };
  }
  throw rowError(row, field, {
    expected: "an end with a user message, or with a user message and its answer",
    found: `an end with roles ${messages.slice(-2).map((message) => message.role).join(", ")}`,
    advice: "complete the conversation or remove the record",
  });
}
