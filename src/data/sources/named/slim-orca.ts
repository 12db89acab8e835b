import type { NamedDataset } from "./named-dataset.ts";

/** A part of OpenOrca, in ShareGPT's shape. */
export const slimOrca: NamedDataset = {
  id: "Open-Orca/SlimOrca",
  splits: { train: "train" },
};
