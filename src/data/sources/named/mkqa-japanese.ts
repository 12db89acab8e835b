import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Questions with short answers, in Japanese; the first answer, as in the original. */
export const mkqaJapanese: NamedDataset = {
  id: "mkqa-Japanese",
  hub: "mkqa",
  splits: { train: "train" },
  read: published({ prompt: "queries.ja", completion: "answers.ja.0.text?" }),
  original: spacedStrings,
};
