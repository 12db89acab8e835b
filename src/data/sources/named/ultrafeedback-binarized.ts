import type { NamedDataset } from "./named-dataset.ts";

/** UltraFeedback with one answer above another; prompt, and whole conversations as messages. */
export const ultrafeedbackBinarized: NamedDataset = {
  id: "HuggingFaceH4/ultrafeedback_binarized",
  splits: { train: "train_prefs", eval: "test_prefs" },
};
