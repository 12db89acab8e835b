import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Questions and answers of Zhihu, in Chinese. */
export const zhihuKol: NamedDataset = {
  id: "wangrui6/Zhihu-KOL",
  splits: { train: "train" },
  read: published({ prompt: "INSTRUCTION", completion: "RESPONSE" }),
  original: spacedStrings,
};
