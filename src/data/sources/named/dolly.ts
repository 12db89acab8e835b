import { type NamedDataset, published } from "./named-dataset.ts";

/** Instructions with answers that people wrote; a context goes below the instruction. */
export const dolly: NamedDataset = {
  id: "databricks/databricks-dolly-15k",
  splits: { train: "train" },
  read: published({ prompt: "{instruction}\n\n{context?}", completion: "response" }),
};
