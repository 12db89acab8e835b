import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Posts of Reddit with two comments, of which readers voted one higher. Close votes are kept, as in the original. */
export const shp: NamedDataset = {
  id: "stanfordnlp/SHP",
  splits: { train: "train", eval: "validation" },
  read: published({ prompt: "history", answer_a: "human_ref_A", answer_b: "human_ref_B", a_wins: "labels = 1" }),
  original: spacedStrings,
};
