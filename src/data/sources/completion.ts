import type { Demonstration } from "../records.ts";
import { type Row, readAnswer, readPrompt } from "./row.ts";

/**
 * The shape `prompt`, `completion`.
 *
 *     {"prompt": "2 + 2?", "completion": "4"}
 */
export function parseCompletion(row: Row): Demonstration {
  const prompt = readPrompt(row);
  return { kind: "demonstration", origin: row.origin, prompt, answer: readAnswer(row, "completion", prompt), trainedTurns: "last" };
}
