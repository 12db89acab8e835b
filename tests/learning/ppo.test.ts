import { expect, test } from "vitest";
import { type PpoOptions, PpoTrainer } from "../../src/ppo/ppo-trainer.ts";
import type { RlhfEngine } from "../../src/ppo/rlhf-engine.ts";
import { tensor } from "../../src/tensor/create.ts";
import { loadTinyRlhf } from "../ppo/tiny-rlhf.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const PROMPT_LENGTH = 4, ITERATIONS = 15;
/** Thirty-two prompts of four tokens. */
const prompts = Array.from({ length: 32 }, (_, i) => Array.from({ length: PROMPT_LENGTH }, (_, t) => 60 + ((7 * i + 3 * t) % 40)));

/** A tiny actor whose reward is 10 times the share of its answer's tokens that are divisible by four: 2.5 by chance. */
async function loadTask(): Promise<RlhfEngine> {
  const rlhf = await loadTinyRlhf(temporaryFolder());
  rlhf.rewardModel.scoreRows = (rows) => tensor(rows.map((row) => {
    const answer = row.slice(PROMPT_LENGTH);
    return (10 * answer.filter((token) => token % 4 === 0).length) / answer.length;
  }));
  return rlhf;
}

/** Mean reward and KL of the first rollout, and of the last three of fifteen. */
async function train(options: PpoOptions = {}): Promise<{ rewardBefore: number; rewardAfter: number; klAfter: number }> {
  const trainer = new PpoTrainer(await loadTask(), {
    seed: 1, samplesPerPrompt: 4, maxNewTokens: 6, miniBatchSize: 32, ppoEpochs: 2, rewardClip: 10, missingEosPenalty: 0, klCoef: 0.01,
    actorLearningRate: 1e-2, criticLearningRate: 1e-2, ...options,
  });
  const rewards: number[] = [], kls: number[] = [];
  for (let i = 0; i < ITERATIONS; i++) {
    const { metrics } = trainer.trainRlhf(await trainer.generateExperience(prompts));
    rewards.push(metrics.reward ?? Number.NaN);
    kls.push(metrics.kl ?? Number.NaN);
  }
  const ofLast = (values: readonly number[]) => values.slice(-3).reduce((sum, x) => sum + x, 0) / 3;
  return { rewardBefore: rewards[0] ?? Number.NaN, rewardAfter: ofLast(rewards), klAfter: ofLast(kls) };
}

test("PPO raises a synthetic reward from below 3.5 to above 6.5 (of 10) in 15 iterations", async () => {
  const { rewardBefore, rewardAfter } = await train();
  expect(rewardBefore).toBeLessThan(3.5);
  expect(rewardAfter).toBeGreaterThan(6.5);
});

test("with a KL weight of 0.5 per nat it still gains 1 in 15 iterations, and stays within 60% of the KL of 0.01 per nat", async () => {
  const [free, held] = [await train(), await train({ klCoef: 0.5 })];
  expect(held.rewardAfter - held.rewardBefore).toBeGreaterThan(1);
  expect(held.klAfter).toBeLessThan(0.6 * free.klAfter);
});

test("with DeepSpeed-Chat's arithmetic and a KL weight of 0.01 it gains 2 in 15 iterations", async () => {
  const { rewardBefore, rewardAfter } = await train({ parity: "deepspeed-chat" });
  expect(rewardAfter - rewardBefore).toBeGreaterThan(2);
});
