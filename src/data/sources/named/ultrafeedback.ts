import { isObject } from "../row.ts";
import { type NamedDataset, reading } from "./named-dataset.ts";

/** Instructions with four answers and their scores: the best against the worst `overall_score`. */
export const ultrafeedback: NamedDataset = {
  id: "openbmb/UltraFeedback",
  splits: { train: "train" },
  read: reading(({ instruction, completions }) => {
    const answers = (Array.isArray(completions) ? completions : []).filter(isObject)
      .map(({ response, overall_score: score }) => ({ response, score: Number(score) }))
      .filter(({ response, score }) => typeof response === "string" && response.trim() !== "" && Number.isFinite(score));
    const [best, worst] = [answers.reduce(higher, answers[0]), answers.reduce(lower, answers[0])];
    if (best === undefined || worst === undefined || best.score === worst.score) return "no two answers with different scores";
    return { prompt: instruction, chosen: best.response, rejected: worst.response };
  }),
};

interface Answer {
  readonly response: unknown;
  readonly score: number;
}

function higher(a: Answer | undefined, b: Answer): Answer {
  return a === undefined || b.score > a.score ? b : a;
}

function lower(a: Answer | undefined, b: Answer): Answer {
  return a === undefined || b.score < a.score ? b : a;
}
