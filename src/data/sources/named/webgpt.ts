import { compileMapping } from "../mapping.ts";
import type { RowMapper } from "../mapping.ts";
import { type NamedDataset, spacedStrings } from "./named-dataset.ts";

const pair = compileMapping({
  prompt: "question.full_text", answer_a: "answer_0", answer_b: "answer_1", a_wins: "score_0 >= score_1",
});

/**
 * Questions with two answers of WebGPT. Where both have the same score the first is chosen, and citations such as [1] are cut out,
 * both as in the original.
 */
export const webgpt: NamedDataset = { id: "openai/webgpt_comparisons", splits: { train: "train" }, read, original: spacedStrings };

function read(...[value, origin]: Parameters<RowMapper>): ReturnType<RowMapper> {
  const row = pair(value, origin);
  if ("kind" in row) return row;
  const [chosen, rejected] = [withoutCitations(row.fields["chosen"]), withoutCitations(row.fields["rejected"])];
  if (chosen === "" || rejected === "") return { kind: "skipped", reason: "no text for an answer but citations" };
  return { ...row, fields: { ...row.fields, chosen, rejected } };
}

function withoutCitations(answer: unknown): string {
  // [^\n] is Python's dot; that of JavaScript stops at other line ends too.
  return String(answer ?? "").replace(/ [([][^\n]*?[)\]]/g, "").replace(/[([][^\n]*?[)\]]/g, "");
}
