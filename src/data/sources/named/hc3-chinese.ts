import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Questions with people's answers, in Chinese; the first answer, as in the original. */
export const hc3Chinese: NamedDataset = {
  id: "Hello-SimpleAI/HC3-Chinese",
  splits: { train: "train" },
  read: published({ prompt: "question", completion: "human_answers.0?" }),
  original: spacedStrings,
};
