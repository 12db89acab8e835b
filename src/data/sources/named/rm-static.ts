import { type NamedDataset, ownStrings } from "./named-dataset.ts";

/** Pairs of HH-RLHF with the prompt apart, as transcripts. */
export const rmStatic: NamedDataset = {
  id: "Dahoas/rm-static",
  splits: { train: "train", eval: "test" },
  original: ownStrings,
};
