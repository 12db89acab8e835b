import type { Message } from "../../../tokenizer/message.ts";
import type { Row } from "../row.ts";
import { type NamedDataset, type OriginalStrings, reading } from "./named-dataset.ts";

/** Conversations of ShareGPT, Alpaca and Open Assistant as Vicuna writes them: "USER: ... ASSISTANT: ... USER: ... ASSISTANT:". */
export const sharegptVicuna: NamedDataset = {
  id: "pvduy/sharegpt_alpaca_oa_vicuna_format",
  splits: { train: "train", eval: "test" },
  read: reading(({ prompt, label }) => {
    if (typeof prompt !== "string" || prompt === "") return "no text for prompt";
    if (typeof label !== "string" || label.trim() === "") return "no text for label";
    const messages = parseTurns(prompt);
    return messages === undefined ? "no turns in the prompt" : { prompt: messages, completion: label, original: { prompt, label } };
  }),
  original,
};

function original({ fields }: Row): OriginalStrings {
  const { prompt, label } = fields["original"] as Record<"prompt" | "label", string>;
  const named = prompt.replaceAll("USER", "Human").replaceAll("ASSISTANT", "Assistant");
  return { prompt: named, chosen: ` ${label}`, rejected: undefined };
}

/** The turns before the open last one; text before the first is the system message. Undefined if a turn is empty. */
function parseTurns(text: string): Message[] | undefined {
  const [before = "", ...parts] = text.split(/(?:^|(?<=\s))(USER|ASSISTANT):/);
  const messages: Message[] = before.trim() === "" ? [] : [{ role: "system", content: before.trim() }];
  for (let i = 0; i + 1 < parts.length; i += 2) {
    messages.push({ role: parts[i] === "USER" ? "user" : "assistant", content: (parts[i + 1] ?? "").trim() });
  }
  if (messages.at(-1)?.role === "assistant" && messages.at(-1)?.content === "") messages.pop();
  return messages.at(-1)?.role === "user" && messages.every(({ content }) => content !== "") ? messages : undefined;
}
