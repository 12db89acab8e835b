import type { DataRecord } from "../data/records.ts";
import type { Message } from "../tokenizer/message.ts";

/** What is wrong with a record that can be read: training would take it and learn nothing good from it. */
export interface Problem {
  readonly field: string;
  readonly problem: string;
}

/** The first problem of a record, if it has one. */
export function problemOf(record: DataRecord): Problem | undefined {
  if (record.kind === "preference" && record.chosen === record.rejected) {
    return { field: "rejected", problem: "expected another answer than the chosen one, found the same; remove the record" };
  }
  return typeof record.prompt === "string" ? undefined : roleProblem(record.prompt);
}

/** A prompt is an optional system message, then user and assistant in turn. */
function roleProblem(prompt: readonly Message[]): Problem | undefined {
  const turns = prompt[0]?.role === "system" ? prompt.slice(1) : prompt;
  const index = turns.findIndex(({ role }, i) => role !== (i % 2 === 0 ? "user" : "assistant"));
  if (index < 0) return undefined;
  const number = index + 1 + (prompt.length - turns.length);
  return {
    field: "prompt",
    problem: "expected user and assistant in turn after an optional system message, " +
      `found role "${turns[index]?.role}" in message ${number}; ` +
      `put the messages in order or remove the record (roles: ${prompt.map(({ role }) => role).join(", ")})`,
  };
}
