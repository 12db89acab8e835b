import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Queries in Japanese with passages that answer them and passages that do not; the first of each, as in the original. */
export const miraclJa: NamedDataset = {
  id: "Cohere/miracl-ja-queries-22-12",
  splits: { train: "train", eval: "dev" },
  read: published({
    prompt: "query", chosen: "positive_passages.0.text?", rejected: "negative_passages.0.text?",
  }),
  original: spacedStrings,
};
