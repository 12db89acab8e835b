import type { Message } from "../../tokenizer/message.ts";
import type { DataRecord, SkippedRecord } from "../records.ts";
import { describe, type Row, readDialogue, rowError, withSystem } from "./row.ts";

/**
 * The shape `chosen`, `rejected` without `prompt`: two whole conversations, as transcripts (Anthropic's HH-RLHF) or as messages.
 * What they have in common, in whole turns, is the prompt. Without `rejected`, a demonstration of the last answer of `chosen`.
 *
 *     {"chosen": "\n\nHuman: 2 + 2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2 + 2?\n\nAssistant: 5"}
 *
 * The published files hold some pairs that differ in more than one answer, and some answers without text. Nobody wrote those
 * by mistake here, so they are skipped and counted rather than refused.
 */
export function parseConversationPair(row: Row): DataRecord | SkippedRecord {
  const { origin } = row;
  const chosen = readConversation(row, "chosen");
  if (row.fields["rejected"] === undefined) {
    const answer = answerAfter(chosen, chosen.length - 1);
    if (typeof answer !== "string") return answer;
    return { kind: "demonstration", origin, prompt: chosen.slice(0, -1), answer, trainedTurns: "last" };
  }
  const rejected = readConversation(row, "rejected");
  const promptLength = numCommonTurns(chosen, rejected);
  const chosenAnswer = answerAfter(chosen, promptLength);
  if (typeof chosenAnswer !== "string") return chosenAnswer;
  const rejectedAnswer = answerAfter(rejected, promptLength);
  if (typeof rejectedAnswer !== "string") return rejectedAnswer;
  return { kind: "preference", origin, prompt: chosen.slice(0, promptLength), chosen: chosenAnswer, rejected: rejectedAnswer };
}

function readConversation(row: Row, field: string): Message[] {
  const conversation = readDialogue(row, field);
  if (conversation !== undefined) return withSystem(row, conversation);
  throw rowError(row, field, {
    expected: 'a whole conversation (messages, or a transcript that begins with "\\n\\nHuman:")',
    found: describe(row.fields[field]),
    advice: 'or put the question into "prompt"',
  });
}

/** Turns that the two share from the start, the last turn of the shorter left out: that one is its answer. */
function numCommonTurns(a: readonly Message[], b: readonly Message[]): number {
  const limit = Math.min(a.length, b.length) - 1;
  let count = 0;
  while (count < limit && a[count]?.role === b[count]?.role && a[count]?.content === b[count]?.content) count++;
  return count;
}

function answerAfter(conversation: readonly Message[], promptLength: number): string | SkippedRecord {
  const [answer, ...rest] = conversation.slice(promptLength);
  if (rest.length > 0) return skipped("the two conversations differ in more than the last answer");
  if (answer?.role !== "assistant") return skipped("the conversation does not end with an answer");
  if (conversation[promptLength - 1]?.role !== "user") return skipped("no user turn comes before the last answer");
  return answer.content === "" ? skipped("an answer is empty") : answer.content;
}

function skipped(reason: string): SkippedRecord {
  return { kind: "skipped", reason };
}
