import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Instructions with an answer of a large model and one of GPT-J. */
export const syntheticInstruct: NamedDataset = {
  id: "Dahoas/synthetic-instruct-gptj-pairwise",
  splits: { train: "train" },
  read: published({ prompt: "prompt", chosen: "chosen", rejected: "rejected" }),
  original: spacedStrings,
};
