import { type NamedDataset, ownStrings } from "./named-dataset.ts";

/** All of HH-RLHF with the prompt apart, as transcripts. */
export const fullHhRlhf: NamedDataset = {
  id: "Dahoas/full-hh-rlhf",
  splits: { train: "train", eval: "test" },
  original: ownStrings,
};
