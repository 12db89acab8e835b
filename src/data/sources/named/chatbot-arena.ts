import { type NamedDataset, published } from "./named-dataset.ts";

/** Conversations with two models and the vote; ties, and conversations that went apart before the last answer, are skipped. */
export const chatbotArena: NamedDataset = {
  id: "lmsys/chatbot_arena_conversations",
  splits: { train: "train" },
  read: published({
    answer_a: "conversation_a", answer_b: "conversation_b", a_wins: 'winner = "model_a"', b_wins: 'winner = "model_b"',
  }),
};
