import { describe, expect, test } from "vitest";
import { completeConfig, resolve } from "../../src/config/resolve.ts";
import { schemaOf } from "../../src/config/schema.ts";
import { ppoFields, ppoSettings, type PpoConfig } from "../../src/ppo/config.ts";
import { rewardFields, rewardSettings } from "../../src/reward/config.ts";
import { sftFields, sftSettings } from "../../src/sft/config.ts";
import { failure } from "../failure.ts";

const paths = { data: ["d.jsonl"], output: "out" };
const sft = { ...paths, model: "m" };
const ppo = { ...paths, actor: "a", rewardModel: "r" };

describe("the defaults", () => {
  test("of PPO are those that the project recommends", () => {
    expect(completeConfig(ppoSettings, ppo)).toMatchObject({
      rolloutBatchSize: 32, samplesPerPrompt: 1, miniBatchSize: 32, ppoEpochs: 1, epochs: 1, maxPromptLen: 256, maxNewTokens: 128,
      temperature: 1, klCoef: 0.05, klTarget: undefined, klHorizon: undefined, gamma: 1, gaeLambda: 0.95,
      clipRange: 0.2, valueClipRange: 0.2,
      rewardClip: 5, missingEosPenalty: 1, whitenAdvantages: true, whitenRewards: false, schedule: "linear", adamEpsilon: 1e-5,
      gradientClip: 1, actorLearningRate: 1e-6, criticLearningRate: 5e-6, parity: "none", seed: 1234,
    });
  });

  test.each([
    ["sft", sftFields, completeConfig(sftSettings, sft)],
    ["reward", rewardFields, completeConfig(rewardSettings, sft)],
    ["ppo", ppoFields, completeConfig(ppoSettings, ppo)],
  ])("of %s are allowed values, and every setting has a help text that fits one line", (_, fields, config) => {
    expect(schemaOf(fields).safeParse(config).error).toBeUndefined();
    for (const field of Object.values(fields)) expect(field.help).toMatch(/^[^\n]{4,140}[^.\n]$/);
  });
});

test("parity with DeepSpeed-Chat brings its values, except where others are given", () => {
  const config = completeConfig(ppoSettings, { ...ppo, parity: "deepspeed-chat", klCoef: 0.02 });
  // ppo_trainer.py: kl_ctl 0.1 (here overridden), no whitening, no penalty; main.py: max_answer_seq_len 256, actor_learning_rate 9.65e-6
  expect(config).toMatchObject({
    klCoef: 0.02, whitenAdvantages: false, missingEosPenalty: 0, maxNewTokens: 256, actorLearningRate: 9.65e-6,
  });
});

describe("settings that do not fit each other are refused", () => {
  const refused = (values: Partial<PpoConfig>): string => failure(() => completeConfig(ppoSettings, { ...ppo, ...values })).message;

  test("a mini-batch that does not divide the rollout", () => {
    // 6 x 4 = 24 answers, 24 / 16 is not whole
    expect(refused({ rolloutBatchSize: 6, samplesPerPrompt: 4, miniBatchSize: 16 })).toBe(
      "--mini-batch-size: expected a divisor of the answers of a rollout (6 prompts x 4 samples = 24), got 16",
    );
    expect(completeConfig(ppoSettings, { ...ppo, rolloutBatchSize: 6, samplesPerPrompt: 4, miniBatchSize: 12 }).miniBatchSize).toBe(12);
  });

  test("a shortest answer above the longest", () => {
    expect(refused({ minNewTokens: 129 })).toBe("--min-new-tokens: expected at most --max-new-tokens (128), got 129");
    expect(completeConfig(ppoSettings, { ...ppo, minNewTokens: 128 }).minNewTokens).toBe(128);
  });

  test("a forward that cannot hold one sequence", () => {
    expect(refused({ microBatchTokens: 383 })).toBe(
      "--micro-batch-tokens: expected at least --max-prompt-len + --max-new-tokens (384), got 383; a sequence must fit into one forward",
    );
    expect(failure(() => completeConfig(sftSettings, { ...sft, microBatchTokens: 511 })).message).toContain("--max-seq-len (512), got 511");
    const reward = failure(() => completeConfig(rewardSettings, { ...sft, microBatchTokens: 1023 }));
    expect(reward.message).toContain("twice --max-seq-len (1024), got 1023");
  });

  test("a setting that the chosen objective does not use", () => {
    const values = { ...sft, numPaddingAtBeginning: 1 };
    expect(failure(() => completeConfig(rewardSettings, values))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: "--num-padding-at-beginning: only --objective deepspeed-chat uses it, got 1 with last-token",
    });
    expect(completeConfig(rewardSettings, { ...values, objective: "deepspeed-chat" }).numPaddingAtBeginning).toBe(1);
  });

  test("a temperature of 0: PPO needs the distribution it samples from", () => {
    expect(failure(() => resolve(ppoSettings, [{ values: { ...ppo, temperature: 0 }, label: (key) => key }])).message).toBe(
      "temperature: expected a number above 0, got 0",
    );
  });
});
