import { type NamedDataset, published } from "./named-dataset.ts";

/** Questions of FLAN with answers of large models. */
export const openOrca: NamedDataset = {
  id: "Open-Orca/OpenOrca",
  splits: { train: "train" },
  read: published({ system: "system_prompt", prompt: "question", completion: "response" }),
};
