import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Questions in Japanese with the sentence that answers them. */
export const qgJaquad: NamedDataset = {
  id: "lmqg/qg_jaquad",
  splits: { train: "train", eval: "validation" },
  read: published({ prompt: "question", completion: "sentence" }),
  original: spacedStrings,
};
