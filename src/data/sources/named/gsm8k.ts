import { type NamedDataset, published } from "./named-dataset.ts";

/** Grade-school mathematics with worked answers. */
export const gsm8k: NamedDataset = {
  id: "openai/gsm8k",
  splits: { train: "main/train", eval: "main/test" },
  read: published({ prompt: "question", completion: "answer" }),
};
