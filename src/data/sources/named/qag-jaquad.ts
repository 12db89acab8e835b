import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Paragraphs in Japanese with questions about them; the first question and the whole paragraph, as in the original. */
export const qagJaquad: NamedDataset = {
  id: "lmqg/qag_jaquad",
  splits: { train: "train", eval: "validation" },
  read: published({ prompt: "questions.0?", completion: "paragraph" }),
  original: spacedStrings,
};
