import { type NamedDataset, published } from "./named-dataset.ts";

/** Questions of OpenOrca with an answer of a large and one of a small model. */
export const orcaDpoPairs: NamedDataset = {
  id: "Intel/orca_dpo_pairs",
  splits: { train: "train" },
  read: published({ system: "system", prompt: "question", chosen: "chosen", rejected: "rejected" }),
};
