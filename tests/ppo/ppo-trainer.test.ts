import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { deepSpeedChatRecipe } from "../../src/ppo/config.ts";
import { type PpoOptions, PpoTrainer } from "../../src/ppo/ppo-trainer.ts";
import type { Experience } from "../../src/ppo/records.ts";
import { RlhfEngine, type RlhfOptions } from "../../src/ppo/rlhf-engine.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { failure, rejection } from "../failure.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { loadTinyRlhf, prompts, writeTinyModels } from "./tiny-rlhf.ts";

const options: PpoOptions = {
  seed: 5,
  maxNewTokens: 8,
  miniBatchSize: 4,
  microBatchTokens: 64,
  actorLearningRate: 1e-3,
  criticLearningRate: 1e-3,
};
const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;

/** KL of each answer against the reference, in nats. */
function klOf({ oldLogprobs, referenceLogprobs }: Experience): number[] {
  const [actor, reference] = [oldLogprobs.toArray() as number[][], referenceLogprobs.toArray() as number[][]];
  return actor.map((row, i) => row.reduce((sum, x, t) => sum + x - (reference[i]?.[t] ?? 0), 0));
}

describe("options", () => {
  test("have the defaults of tschat ppo, with parity those of the original", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    expect(new PpoTrainer(rlhf).options).toMatchObject({ klCoef: 0.05, whitenAdvantages: true, missingEosPenalty: 1 });
    expect(new PpoTrainer(rlhf, { parity: "deepspeed-chat" }).options).toMatchObject(deepSpeedChatRecipe);
    expect(new PpoTrainer(rlhf, { parity: "deepspeed-chat", klCoef: 0.3 }).options.klCoef).toBe(0.3);
  });

  test.each<[PpoOptions, string]>([
    [{ clipRange: -1 }, "clipRange: expected a number above 0, got -1"],
    [{ gamma: 1.5 }, "gamma: expected a number in [0, 1], got 1.5"],
    [{ temperature: 0 }, "temperature: expected a number above 0, got 0"],
    [{ ppoEpochs: 0 }, "ppoEpochs: expected a whole number of at least 1, got 0"],
    [{ maxNewTokens: 2.5 }, "maxNewTokens: expected a whole number of at least 1, got 2.5"],
    [{ klCoeff: 1 } as PpoOptions, 'unknown setting "klCoeff" of PPO; did you mean klCoef?'],
  ])("out of range are refused: %o", async (wrong, message) => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    expect(failure(() => new PpoTrainer(rlhf, wrong))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });
});

describe("an iteration", () => {
  test("reports what happened in the rollout", async () => {
    const trainer = new PpoTrainer(await loadTinyRlhf(temporaryFolder()), options);
    trainer.trainRlhf(await trainer.generateExperience(prompts)); // so that actor and reference differ
    const experience = await trainer.generateExperience(prompts);
    const { policyLoss, valueLoss, metrics } = trainer.trainRlhf(experience);
    expect(Number.isFinite(policyLoss) && valueLoss > 0).toBe(true);
    const scores = experience.scores.numbers();
    assertClose(metrics.reward ?? Number.NaN, mean(scores));
    assertClose(metrics.rewardDeviation ?? Number.NaN, Math.sqrt((mean(scores.map((x) => (x - mean(scores)) ** 2)) * 8) / 7));
    assertClose(metrics.kl ?? Number.NaN, mean(klOf(experience)), { rtol: 1e-4 });
    expect(metrics.kl).not.toBe(0);
    assertClose(metrics.responseLength ?? Number.NaN, mean(experience.responses.map((response) => response.length)));
    assertClose(metrics.finished ?? Number.NaN, mean(experience.finishReasons.map((reason) => Number(reason === "eos"))));
    for (const name of [
      "rolloutTokensPerSecond",
      "scoringTokensPerSecond",
      "updateTokensPerSecond",
      "entropy",
      "clipFraction",
      "approxKl",
    ]) {
      expect(metrics[name], name).toBeGreaterThanOrEqual(0);
    }
    expect(metrics.klCoef).toBe(0.05);
  });

  test("never shares draws with the one before", async () => {
    const trainer = new PpoTrainer(await loadTinyRlhf(temporaryFolder()), options);
    expect((await trainer.generateExperience(prompts)).responses).not.toEqual((await trainer.generateExperience(prompts)).responses);
  });

  test("scales both learning rates with the schedule's factor", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const trainer = new PpoTrainer(rlhf, options);
    const weights = () => [rlhf.actor, rlhf.critic].map(({ model }) => model.blocks.flatMap(({ flat }) => flat.numbers()));
    const before = weights();
    trainer.trainRlhf(await trainer.generateExperience(prompts), { learningRateFactor: 0 });
    expect(weights()).toEqual(before);
  });

  test("trains with DeepSpeed-Chat's arithmetic", async () => {
    const trainer = new PpoTrainer(await loadTinyRlhf(temporaryFolder()), { ...options, parity: "deepspeed-chat" });
    const experience = await trainer.generateExperience(prompts);
    // The slot behind a shorter answer carries the score, and advantages are not whitened.
    const { policyLoss, valueLoss } = trainer.trainRlhf(experience);
    expect(trainer.klCoef).toBe(0.1);
    expect(Number.isFinite(policyLoss) && valueLoss > 0).toBe(true);
  });

  test("of a score that is not finite is a TrainingError", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    noGrad(() => rlhf.rewardModel.score.leaf("weight").fill_(Number.NaN));
    expect(await rejection(() => new PpoTrainer(rlhf, options).generateExperience(prompts))).toEqual({
      name: "TrainingError",
      code: "E_TRAINING",
      message: "PPO: the reward model gave a score that is not finite in iteration 1",
    });
  });
});

describe("the weight of the KL penalty", () => {
  test("stays without a target", async () => {
    const trainer = new PpoTrainer(await loadTinyRlhf(temporaryFolder()), options);
    for (let i = 0; i < 2; i++) trainer.trainRlhf(await trainer.generateExperience(prompts));
    expect(trainer.klCoef).toBe(0.05);
  });

  test("moves towards a target, by at most a fifth times answers over horizon", async () => {
    const trainer = new PpoTrainer(await loadTinyRlhf(temporaryFolder()), {
      ...options,
      klTarget: 1e-3,
      klHorizon: 16,
      actorLearningRate: 1e-2,
    });
    trainer.trainRlhf(await trainer.generateExperience(prompts)); // KL 0: 1 - 0.2 * 8 / 16
    assertClose(trainer.klCoef, 0.05 * 0.9);
    const experience = await trainer.generateExperience(prompts);
    expect(Math.abs(mean(klOf(experience)))).toBeGreaterThan(0.0012); // far beyond the target, on either side
    const sign = Math.sign(mean(klOf(experience)));
    trainer.trainRlhf(experience);
    assertClose(trainer.klCoef, 0.05 * 0.9 * (1 + sign * 0.1));
  });
});

test("two runs with the same seed leave the same bits", async () => {
  const train = async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    const trainer = new PpoTrainer(rlhf, options);
    for (let i = 0; i < 3; i++) trainer.trainRlhf(await trainer.generateExperience(prompts));
    const folder = temporaryFolder();
    await rlhf.actor.save(folder);
    return readFileSync(join(folder, "model.safetensors"));
  };
  expect((await train()).equals(await train())).toBe(true);
});

describe("RlhfEngine.load", () => {
  test("refuses a reward model with fewer tokens than the actor that cannot read text", async () => {
    const folder = temporaryFolder();
    const { rewardModel } = await writeTinyModels(folder);
    for (const file of readdirSync(rewardModel).filter((name) => name.includes("token"))) rmSync(join(rewardModel, file));
    const actor = writeTinyModel(join(folder, "other"), { family: "llama", tokenizer: true, config: { vocab_size: 410 } });
    expect(await rejection(() => RlhfEngine.load({ actor, rewardModel }))).toEqual({
      name: "ConfigError",
      code: "E_CONFIG",
      message:
        `${rewardModel}: its vocabulary has 400 tokens, the actor's 410, and it has no tokenizer; ` +
        "put the files of its tokenizer into the folder",
    });
  });

  test("refuses models in each other's place", async () => {
    const { actor, rewardModel } = await writeTinyModels(temporaryFolder());
    expect(await rejection(() => RlhfEngine.load({ actor, rewardModel: actor }))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringContaining(`${actor}: has no "score.weight": it is no reward model`) as string,
    });
    expect(await rejection(() => RlhfEngine.load({ actor: rewardModel, rewardModel }))).toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
    });
  });

  test("makes the actor's generation end with its turn, also when it is saved", async () => {
    const rlhf = await loadTinyRlhf(temporaryFolder());
    expect(rlhf.actor.model.generationConfig.eos_token_id).toBe(rlhf.tokenizer.endOfTurnTokenId);
  });
});

test("one object of settings serves RlhfEngine.load and PpoTrainer; a misspelled one is refused by both", async () => {
  const folder = temporaryFolder();
  const { actor, rewardModel } = await writeTinyModels(folder);
  const config = { dtype: "float32", gradientClip: 0.5, klCoef: 0.2 } as const;
  const rlhf = await RlhfEngine.load({ actor, rewardModel, ...config });
  expect(new PpoTrainer(rlhf, config).options.klCoef).toBe(0.2);
  expect(await rejection(() => RlhfEngine.load({ actor, rewardModel, gradienClip: 1 } as RlhfOptions))).toEqual({
    name: "ConfigError", code: "E_CONFIG", message: 'unknown setting "gradienClip" of PPO; did you mean gradientClip?',
  });
});
