import { isObject } from "../row.ts";
import { type NamedDataset, reading } from "./named-dataset.ts";

const read = reading(({ prompt: root }) => {
  const replies = isObject(root) && Array.isArray(root["replies"]) ? root["replies"].filter(isObject) : [];
  const ranked = replies.filter(({ rank, text, deleted }) => typeof rank === "number" && isText(text) && deleted !== true)
    .sort((a, b) => Number(a["rank"]) - Number(b["rank"]));
  const [best, worst] = [ranked[0], ranked.at(-1)];
  if (!isObject(root) || !isText(root["text"])) return "no text for prompt";
  if (best === undefined || best === worst) return "no two ranked replies";
  return { prompt: root["text"], chosen: best["text"], rejected: worst?.["text"] };
});

/**
 * Trees of Open Assistant, one a line, as the repository's `*_ready.trees.jsonl.gz` holds them: the first question with its best
 * and its worst ranked reply. (The Parquet files hold the same messages one by one, which no record alone makes a dialogue.)
 */
export const oasst1: NamedDataset = { id: "OpenAssistant/oasst1", splits: { train: "train", eval: "validation" }, read };

/** As oasst1, with more trees. */
export const oasst2: NamedDataset = { id: "OpenAssistant/oasst2", splits: { train: "train", eval: "validation" }, read };

function isText(value: unknown): value is string {
  return typeof value === "string" && value.trim() !== "";
}
