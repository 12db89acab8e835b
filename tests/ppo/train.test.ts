import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { type PpoConfig, ppoSettings } from "../../src/ppo/config.ts";
import { trainPpo } from "../../src/ppo/train.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { type TinyFolders, writeTinyModels } from "./tiny-rlhf.ts";

const records = (count: number, from = 0) => Array.from({ length: count }, (_, i) => ({ prompt: `question ${from + i}` }));

/** Settings of a small run on 12 prompts, with 4 others to look at. */
async function setUp(config: Partial<PpoConfig> = {}): Promise<{ settings: PpoConfig; run: MemoryRun; folders: TinyFolders }> {
  const folder = temporaryFolder(),
    folders = await writeTinyModels(folder);
  const settings = completeConfig(ppoSettings, {
    ...folders,
    output: join(folder, "run"),
    data: [writeJsonl(join(folder, "prompts.jsonl"), records(12))],
    evalData: writeJsonl(join(folder, "eval.jsonl"), records(4, 100)),
    dtype: "float32",
    rolloutBatchSize: 4,
    miniBatchSize: 4,
    maxNewTokens: 6,
    actorLearningRate: 1e-3,
    criticLearningRate: 1e-3,
    ...config,
  });
  return { settings, run: new MemoryRun(settings.output), folders };
}

async function train(config: Partial<PpoConfig> = {}) {
  const { settings, run, folders } = await setUp(config);
  return { summary: await trainPpo(settings, run), run, folders };
}

const weights = (folder: string) => readTensors(join(folder, "model.safetensors"));

describe("trainPpo", () => {
  test("goes over the prompts in whole rollouts, as often as there are epochs", async () => {
    const { summary, run } = await train({ rolloutBatchSize: 5, miniBatchSize: 5, epochs: 2 });
    expect(run.totalSteps).toBe(4); // floor(12 / 5) an epoch
    expect(summary).toMatchObject({ iterations: 4, trainPrompts: 12, evalPrompts: 4 });
    expect(run.series("reward")).toHaveLength(4);
  });

  test("leaves the actor as it is, bit for bit, while only the critic warms up", async () => {
    const { run, folders } = await train({ maxSteps: 2, criticWarmupSteps: 2 });
    expect(weights(run.modelFolder)).toEqual(weights(folders.actor));
    const trained = await train({ maxSteps: 2, criticWarmupSteps: 1 });
    expect(weights(trained.run.modelFolder)).not.toEqual(weights(trained.folders.actor));
  });

  test("is the same bit for bit for the same seed, and another for another", async () => {
    const bytes = async (seed: number) => readFileSync(join((await train({ maxSteps: 2, seed })).run.modelFolder, "model.safetensors"));
    const [first, again, other] = [await bytes(3), await bytes(3), await bytes(4)];
    expect(again.equals(first)).toBe(true);
    expect(other.equals(first)).toBe(false);
  });

  test("evaluates with the same draws each time: what is before training does not depend on what follows", async () => {
    const [short, long] = [await train({ maxSteps: 1 }), await train({ maxSteps: 3, evalEvery: 2, actorLearningRate: 0 })];
    expect(long.summary.before).toEqual(short.summary.before);
    expect(long.summary.after).toEqual(long.summary.before); // nothing was learned
    expect(long.summary.rewardDifference).toEqual({ mean: 0, standardError: 0 });
    expect(long.run.logged.filter(({ metrics }) => "evalReward" in metrics).map(({ step }) => step)).toEqual([0, 2, 3]);
  });

  test("scales the learning rate with the schedule, from the first iteration to the last", async () => {
    const { run } = await train({ maxSteps: 4, warmupSteps: 1, schedule: "linear" });
    assertClose(run.series("actorLearningRate"), [0.5e-3, 1e-3, (2 / 3) * 1e-3, (1 / 3) * 1e-3]);
  });

  test("saves every n iterations", async () => {
    const { run } = await train({ maxSteps: 3, saveEvery: 2 });
    expect([1, 2, 3].map((step) => existsSync(join(run.checkpointFolder(step), "model.safetensors")))).toEqual([false, true, false]);
    expect(existsSync(join(run.checkpointFolder(2), "tokenizer.json"))).toBe(true);
  });

  test("shows what was sampled, in training and on held-out prompts", async () => {
    const { run } = await train({ maxSteps: 1 });
    expect(run.samples.filter(({ step }) => step === 1)).toHaveLength(4);
    expect(run.samples.filter(({ heldOut }) => heldOut !== undefined).map(({ prompt }) => prompt)).toEqual(
      records(4, 100).map(({ prompt }) => prompt),
    );
  });

  test.each([
    ["after an iteration", 2, 1], // logged before it: the first evaluation
    ["in the middle of a rollout", 1, 0],
  ])("stops %s, saves the last finished iteration and says so", async (_when, stopAfter, step) => {
    const { settings, run, folders } = await setUp({ maxSteps: 100 });
    run.stopAfter = stopAfter;
    expect(await rejection(() => trainPpo(settings, run))).toEqual({
      name: "Interrupted",
      code: "E_INTERRUPTED",
      message: `interrupted after step ${step}; the model is saved in ${run.checkpointFolder(step)}`,
    });
    expect(run.series("reward")).toHaveLength(step);
    const isUntrained = isDeepStrictEqual(weights(run.checkpointFolder(step)), weights(folders.actor));
    expect(isUntrained).toBe(step === 0);
  });

  test("runs with DeepSpeed-Chat's arithmetic and settings", async () => {
    const { summary, run } = await train({ parity: "deepspeed-chat", maxSteps: 2 });
    expect(summary.iterations).toBe(2);
    expect(run.series("klCoef")).toEqual([0.1, 0.1]);
  });
});
