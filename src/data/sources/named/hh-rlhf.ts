import type { NamedDataset } from "./named-dataset.ts";

/** Pairs of whole conversations, as transcripts. */
export const hhRlhf: NamedDataset = {
  id: "Anthropic/hh-rlhf",
  splits: { train: "train", eval: "test" },
};
