import { parseTranscript } from "../transcript.ts";
import type { Row } from "../row.ts";
import { type NamedDataset, type OriginalStrings, reading } from "./named-dataset.ts";

const LABEL = "Assistant:";

/** Pairs whose prompt is a transcript without its last "Assistant:", with which the answers begin. */
export const rlhfRewardDatasets: NamedDataset = {
  id: "yitingxie/rlhf-reward-datasets",
  splits: { train: "train", eval: "test" },
  read: reading(({ prompt, chosen, rejected }) => {
    if (typeof prompt !== "string" || typeof chosen !== "string" || typeof rejected !== "string") return "no text for prompt or answer";
    // The original's own rule for an answer: what comes after the last label.
    const answers = { chosen: chosen.split(LABEL).at(-1)?.trim(), rejected: rejected.split(LABEL).at(-1)?.trim() };
    if (answers.chosen === "" || answers.rejected === "") return "an answer is empty";
    const messages = parseTranscript(prompt);
    if (messages.at(-1)?.role !== "user") return "the prompt does not end with a question";
    return { prompt: messages, ...answers, original: { prompt, chosen, rejected } };
  }),
  original,
};

function original({ fields }: Row): OriginalStrings {
  const { prompt, chosen, rejected } = fields["original"] as Record<"prompt" | "chosen" | "rejected", string>;
  // Steps 1 and 2 take prompt + answer, step 3 prompt + label: both are these strings, since the published answers begin with the label.
  const rest = (answer: string): string => (answer.startsWith(LABEL) ? answer.slice(LABEL.length) : answer);
  return { prompt: prompt + LABEL, chosen: rest(chosen), rejected: rest(rejected) };
}
