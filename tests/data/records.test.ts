import { describe, expect, test } from "vitest";
import type { Demonstration, Preference, PromptRecord } from "../../src/data/records.ts";
import { recordForStep } from "../../src/data/records.ts";
import { expectConfigError } from "./expect-config-error.ts";

const origin = { path: "data.jsonl", line: 7 };
const prompt = [{ role: "user", content: "2 + 2?" }] as const;
const alone: PromptRecord = { kind: "prompt", origin, prompt };
const demonstration: Demonstration = { kind: "demonstration", origin, prompt, answer: "4", trainedTurns: "all" };
const preference: Preference = { kind: "preference", origin, prompt, chosen: "4", rejected: "5" };

describe("recordForStep", () => {
  test("gives SFT an answer to imitate, the chosen one of a preference", () => {
    expect(recordForStep(demonstration, "sft")).toEqual(demonstration);
    expect(recordForStep(preference, "sft")).toEqual({ ...demonstration, trainedTurns: "last" });
  });

  test("gives the reward model and DPO both answers", () => {
    expect(recordForStep(preference, "reward")).toEqual(preference);
    expect(recordForStep(preference, "dpo")).toEqual(preference);
  });

  test("gives PPO the prompt and no answer", () => {
    for (const record of [alone, demonstration, preference]) expect(recordForStep(record, "ppo")).toEqual(alone);
  });

  test("gives SFT text, which is no prompt for PPO", async () => {
    const text: Demonstration = { kind: "demonstration", origin, prompt: "", answer: "4", trainedTurns: "all" };
    expect(recordForStep(text, "sft")).toEqual(text);
    await expectConfigError(
      () => recordForStep(text, "ppo"), /^data\.jsonl:7: field "prompt": expected a prompt to answer, found text alone; PPO needs/,
    );
  });

  test("names the field that a step lacks", async () => {
    await expectConfigError(
      () => recordForStep(alone, "sft"),
      /^data\.jsonl:7: field "completion": expected an answer to imitate, found a prompt alone; SFT needs/,
    );
    for (const step of ["reward", "dpo"] as const) {
      for (const record of [alone, demonstration]) {
        await expectConfigError(
          () => recordForStep(record, step),
          /^data\.jsonl:7: field "rejected": expected an answer that was not preferred, found nothing; /,
        );
      }
    }
  });
});
