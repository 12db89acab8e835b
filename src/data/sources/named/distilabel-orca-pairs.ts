import { type NamedDataset, published } from "./named-dataset.ts";

/** orca_dpo_pairs, judged again; pairs without a winner are left out. */
export const distilabelOrcaPairs: NamedDataset = {
  id: "argilla/distilabel-intel-orca-dpo-pairs",
  splits: { train: "train" },
  read: published({
    system: "system", prompt: "input", chosen: "chosen", rejected: "rejected", skip_if: 'status = "tie"',
  }),
};
