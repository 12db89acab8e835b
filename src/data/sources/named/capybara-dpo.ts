import { type NamedDataset, published } from "./named-dataset.ts";

/** Conversations of Capybara with two last answers; its field prompt holds one turn only and is not read. */
export const capybaraDpo: NamedDataset = {
  id: "argilla/distilabel-capybara-dpo-7k-binarized",
  splits: { train: "train" },
  read: published({ chosen: "chosen", rejected: "rejected" }),
};
