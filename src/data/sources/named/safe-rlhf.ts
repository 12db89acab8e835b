import { type NamedDataset, published } from "./named-dataset.ts";

/** Prompts with two answers; the more helpful one is chosen (`safer_response_id` is not read). */
export const safeRlhf: NamedDataset = {
  id: "PKU-Alignment/PKU-SafeRLHF",
  splits: { train: "train", eval: "test" },
  read: published({
    prompt: "prompt", answer_a: "response_0", answer_b: "response_1", a_wins: "better_response_id = 0",
  }),
};
