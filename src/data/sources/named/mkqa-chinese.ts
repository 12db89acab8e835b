import { type NamedDataset, published, spacedStrings } from "./named-dataset.ts";

/** Questions with short answers, in Chinese; the first answer, as in the original. */
export const mkqaChinese: NamedDataset = {
  id: "mkqa-Chinese",
  hub: "mkqa",
  splits: { train: "train" },
  read: published({ prompt: "queries.zh_cn", completion: "answers.zh_cn.0.text?" }),
  original: spacedStrings,
};
