import type { DataRecord } from "../records.ts";
import { type Row, readAnswer, readPrompt } from "./row.ts";

/**
 * The shape `prompt`, `chosen`, `rejected`; without `rejected`, a demonstration of the chosen answer.
 *
 *     {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}
 */
export function parsePreference(row: Row): DataRecord {
  const { origin } = row;
  const prompt = readPrompt(row);
  const chosen = readAnswer(row, "chosen", prompt);
  if (row.fields["rejected"] === undefined) return { kind: "demonstration", origin, prompt, answer: chosen, trainedTurns: "last" };
  return { kind: "preference", origin, prompt, chosen, rejected: readAnswer(row, "rejected", prompt) };
}
