import type { NamedDataset } from "./named-dataset.ts";

/** Instructions with answers, in Alpaca's shape. */
export const alpaca: NamedDataset = {
  id: "tatsu-lab/alpaca",
  splits: { train: "train" },
};
