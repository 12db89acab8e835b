import type { NamedDataset } from "./named-dataset.ts";

/** Conversations for SFT, as messages. */
export const ultrachat200k: NamedDataset = {
  id: "HuggingFaceH4/ultrachat_200k",
  splits: { train: "train_sft", eval: "test_sft" },
};
