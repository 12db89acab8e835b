import { describe, expect, test } from "vitest";
import { recordReader } from "../../../../src/data/sources/source.ts";

const origin = { path: "data.jsonl", line: 1 };
const user = (content: string) => ({ role: "user", content }) as const;
const assistant = (content: string) => ({ role: "assistant", content }) as const;
const system = (content: string) => ({ role: "system", content }) as const;
const pair = { kind: "preference", chosen: "4", rejected: "5" } as const;
const skipped = (reason: string) => ({ kind: "skipped", reason });
const reply = (text: string, rank: number | null) => ({ message_id: text, text, role: "assistant", rank, replies: [] });
const arena = (winner: string) => ({
  winner, model_a: "m", model_b: "n", conversation_a: [user("2?"), assistant("5")], conversation_b: [user("2?"), assistant("4")],
});
const helpsteer3 = (preference: number) => ({
  domain: "general", context: [user("2?")], response1: "5", response2: "4", overall_preference: preference,
});

describe("published records of", () => {
  test.each<[string, unknown, object]>([
    ["Anthropic/hh-rlhf", { chosen: "\n\nHuman: 2?\n\nAssistant: 4", rejected: "\n\nHuman: 2?\n\nAssistant: 5" },
      { ...pair, prompt: [user("2?")] }],
    ["HuggingFaceH4/ultrafeedback_binarized", {
      prompt: "2?", prompt_id: "x", chosen: [user("2?"), assistant("4")], rejected: [user("2?"), assistant("5")],
      messages: [user("2?"), assistant("4")], score_chosen: 8, score_rejected: 6,
    }, { ...pair, prompt: [user("2?")] }],
    ["openbmb/UltraFeedback", {
      instruction: "2?", source: "x",
      completions: [{ response: "3", overall_score: 6 }, { response: "5", overall_score: 2.5 }, { response: "4", overall_score: 9 }],
    }, { ...pair, prompt: [user("2?")] }],
    ["openbmb/UltraFeedback",
      { instruction: "2?", completions: [{ response: "3", overall_score: 6 }, { response: "5", overall_score: 6 }] },
      skipped("no two answers with different scores")],
    ["HuggingFaceH4/ultrachat_200k", { prompt: "2?", messages: [user("2?"), assistant("4")] },
      { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["OpenAssistant/oasst2",
      { message_tree_id: "x", prompt: { text: "2?", replies: [reply("5", 2), reply("4", 0), reply("3", 1), reply("?", null)] } },
      { ...pair, prompt: [user("2?")] }],
    ["OpenAssistant/oasst1", { prompt: { text: "2?", replies: [reply("4", 0)] } }, skipped("no two ranked replies")],
    ["trl-lib/Capybara", { source: "x", messages: [user("2?"), assistant("4")], num_turns: 1 },
      { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["trl-lib/kto-mix-14k", { prompt: [user("2?")], completion: [assistant("4")], label: true },
      { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["allenai/tulu-3-sft-mixture", { id: "x", messages: [system("Be"), user("2?"), assistant("4")], source: "y" },
      { kind: "demonstration", prompt: [system("Be"), user("2?")], answer: "4" }],
    ["allenai/RLVR-GSM", { messages: [user("2?")], ground_truth: "4", dataset: "gsm8k" }, { kind: "prompt", prompt: [user("2?")] }],
    ["nvidia/HelpSteer2", { split: "train", prompt: "2?", response_1: "4", response_2: "5", preference_strength: -2 },
      { ...pair, prompt: [user("2?")] }],
    ["nvidia/HelpSteer2", {
      prompt: "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\n2?", response_1: "5", response_2: "4", preference_strength: 1,
    }, { ...pair, prompt: [user("Hi"), assistant("Hello"), user("2?")] }],
    ["nvidia/HelpSteer2", { prompt: "2?", response_1: "4", response_2: "5", preference_strength: 0 },
      skipped("neither answer is preferred")],
    ["nvidia/HelpSteer3", helpsteer3(3), { ...pair, prompt: [user("2?")] }],
    ["nvidia/HelpSteer3", helpsteer3(0), skipped("neither answer is preferred")],
    ["Intel/orca_dpo_pairs", { system: "Be", question: "2?", chosen: "4", rejected: "5" }, { ...pair, prompt: [system("Be"), user("2?")] }],
    ["Intel/orca_dpo_pairs", { system: "", question: "2?", chosen: "4", rejected: "5" }, { ...pair, prompt: [user("2?")] }],
    ["argilla/distilabel-intel-orca-dpo-pairs", { system: "", input: "2?", chosen: "4", rejected: "5", status: "unchanged" },
      { ...pair, prompt: [user("2?")] }],
    ["argilla/distilabel-intel-orca-dpo-pairs", { system: "", input: "2?", chosen: "4", rejected: "5", status: "tie" },
      skipped('skip_if: status = "tie"')],
    ["argilla/distilabel-capybara-dpo-7k-binarized", {
      prompt: "2?", chosen: [user("Hi"), assistant("Hello"), user("2?"), assistant("4")],
      rejected: [user("Hi"), assistant("Hello"), user("2?"), assistant("5")],
    }, { ...pair, prompt: [user("Hi"), assistant("Hello"), user("2?")] }],
    ["argilla/ultrafeedback-binarized-preferences-cleaned", {
      source: "x", prompt: "2?", chosen: [user("2?"), assistant("4")], rejected: [user("2?"), assistant("5")],
    }, { ...pair, prompt: [user("2?")] }],
    ["openai/gsm8k", { question: "2?", answer: "4" }, { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["tatsu-lab/alpaca", { instruction: "Add.", input: "2, 2", output: "4", text: "Below is an instruction" },
      { kind: "demonstration", prompt: [user("Add.\n\n2, 2")], answer: "4" }],
    ["databricks/databricks-dolly-15k", { instruction: "2?", context: "", response: "4", category: "qa" },
      { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["databricks/databricks-dolly-15k", { instruction: "2?", context: "Sums.", response: "4" },
      { kind: "demonstration", prompt: [user("2?\n\nSums.")], answer: "4" }],
    ["teknium/OpenHermes-2.5", { conversations: [{ from: "human", value: "2?" }, { from: "gpt", value: "4" }], source: "x" },
      { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["Open-Orca/OpenOrca", { id: "x", system_prompt: "Be", question: "2?", response: "4" },
      { kind: "demonstration", prompt: [system("Be"), user("2?")], answer: "4" }],
    ["Open-Orca/OpenOrca", { id: "x", system_prompt: "", question: "2?", response: "" }, skipped("no text for completion")],
    ["PKU-Alignment/PKU-SafeRLHF", { prompt: "2?", response_0: "5", response_1: "4", better_response_id: 1, safer_response_id: 0 },
      { ...pair, prompt: [user("2?")] }],
    ["lmsys/chatbot_arena_conversations", arena("model_b"), { ...pair, prompt: [user("2?")] }],
    ["lmsys/chatbot_arena_conversations", arena("tie (bothbad)"), skipped("neither answer is preferred")],
  ])("%s: %j", (path, record, expected) => {
    expect(recordReader({ path })(record, origin)).toMatchObject(expected);
  });
});
