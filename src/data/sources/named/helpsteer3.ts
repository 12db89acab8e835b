import { type NamedDataset, published } from "./named-dataset.ts";

/** Conversations with two answers and how much better the second is, from -3 to 3. */
export const helpsteer3: NamedDataset = {
  id: "nvidia/HelpSteer3",
  splits: { train: "preference/train", eval: "preference/validation" },
  read: published({
    prompt: "context", answer_a: "response1", answer_b: "response2", a_wins: "overall_preference < 0", b_wins: "overall_preference > 0",
  }),
};
