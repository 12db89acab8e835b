import type { Demonstration, SkippedRecord } from "../records.ts";
import { type Row, readAnswer, readPrompt, readText, withSystem } from "./row.ts";

/**
 * The shape `prompt`, `completion`; with `label` (TRL's unpaired preference) a demonstration where it is true. The answers that
 * people did not want are skipped: a record alone is no pair.
 *
 *     {"prompt": "2 + 2?", "completion": "4"}
 *     {"prompt": "2 + 2?", "completion": "5", "label": false}
 */
export function parseCompletion(row: Row): Demonstration | SkippedRecord {
  const prompt = readPrompt(row);
  const answer = readAnswer(row, "completion", prompt);
  if (row.fields["label"] === false) return { kind: "skipped", reason: "the answer is labelled as not wanted (label: false)" };
  return { kind: "demonstration", origin: row.origin, prompt, answer, trainedTurns: "last" };
}

/**
 * The shape `instruction`, `input`, `output` of Alpaca. Instruction and input, with a blank line between them, are the user's
 * message; Alpaca's own prompt text ("Below is an instruction that ...") is not added, since the chat template frames the turns.
 *
 *     {"instruction": "Add the numbers.", "input": "2 and 2", "output": "4"}
 */
export function parseInstruction(row: Row): Demonstration {
  const instruction = readText(row, "instruction");
  const { input } = row.fields;
  const content = input === undefined || input === "" ? instruction : `${instruction}\n\n${readText(row, "input")}`;
  const prompt = withSystem(row, [{ role: "user", content }]);
  return { kind: "demonstration", origin: row.origin, prompt, answer: readText(row, "output"), trainedTurns: "last" };
}
