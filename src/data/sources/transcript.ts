import type { Message } from "../../tokenizer/message.ts";

/**
 * Whether `value` is a dialogue written as one string in the way of Anthropic's HH-RLHF: turns that begin with `\n\nHuman:` and
 * `\n\nAssistant:`, the human's first. The blank lines before the first turn may be missing if an assistant turn follows,
 * so that a sentence beginning with "Human:" stays a sentence.
 */
export function isTranscript(value: unknown): value is string {
  if (typeof value !== "string") return false;
  return value.startsWith("\n\nHuman:") || (/^\s*Human:/.test(value) && value.includes("\n\nAssistant:"));
}

/**
 * The messages of a transcript; blanks around a turn's text are dropped. A turn may be empty.
 *
 *     parseTranscript("\n\nHuman: Hi\n\nAssistant: Hello") // [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }]
 */
export function parseTranscript(text: string): Message[] {
  const parts = `\n\n${text.trimStart()}`.split(/\n\n(Human|Assistant):/);
  const messages: Message[] = [];
  for (let i = 1; i + 1 < parts.length; i += 2) {
    messages.push({ role: parts[i] === "Human" ? "user" : "assistant", content: parts[i + 1]!.trim() });
  }
  return messages;
}
