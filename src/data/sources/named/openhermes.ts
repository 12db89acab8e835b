import type { NamedDataset } from "./named-dataset.ts";

/** Conversations, in ShareGPT's shape. */
export const openhermes: NamedDataset = {
  id: "teknium/OpenHermes-2.5",
  splits: { train: "train" },
};
