import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { type PpoConfig, ppoSettings } from "../../src/ppo/config.ts";
import { type PpoOptions, PpoTrainer } from "../../src/ppo/ppo-trainer.ts";
import { RlhfEngine } from "../../src/ppo/rlhf-engine.ts";
import { trainPpo } from "../../src/ppo/train.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { failure, rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { prompts, writeTinyModels } from "./tiny-rlhf.ts";

const options: PpoOptions = {
  seed: 5, maxNewTokens: 8, miniBatchSize: 8, microBatchTokens: 64, actorLearningRate: 1e-2, criticLearningRate: 1e-2,
};
const bitsOf = (model: CausalLM) => noGrad(() => model.tokenLogprobs(prompts).logprobs.numbers());

describe.each(["float32", "bfloat16"] as const)("with adapters on actor and critic, in %s,", (dtype) => {
  test("the reference is the actor without them, in the same memory, and stays at the SFT model while the actor moves", async () => {
    const folders = await writeTinyModels(temporaryFolder());
    const rlhf = await RlhfEngine.load({ ...folders, dtype, actorLoraRank: 4, criticLoraRank: 2, seed: 1 });
    const sft = bitsOf(await CausalLM.load(folders.actor, { dtype }));
    noGrad(() => { // one memory: what is written here is seen there
      const [mine, theirs] = [rlhf.actor.model, rlhf.reference].map(({ blocks }) => blocks[1]?.flat.slice(0, 0, 1));
      const value = mine?.item() ?? 0;
      mine?.fill_(value + 1);
      expect(theirs?.item()).toBe(mine?.item());
      mine?.fill_(value);
    });
    const trainer = new PpoTrainer(rlhf, options);
    for (let i = 0; i < 2; i++) {
      // The first minibatch of each: a ratio other than 1 would end the run.
      const { metrics } = trainer.trainRlhf(await trainer.generateExperience(prompts));
      expect(metrics.ratioMax).toBeLessThanOrEqual(1e-5);
      if (i === 0) expect(metrics.kl).toBe(0);
    }
    expect(bitsOf(rlhf.reference)).toEqual(sft);
    expect(bitsOf(rlhf.actor.model)).not.toEqual(sft);
    expect(Math.abs(trainer.trainRlhf(await trainer.generateExperience(prompts)).metrics.kl ?? 0)).toBeGreaterThan(0);
  });
});

test("where more of the actor trains the reference is a copy, and stays too", async () => {
  const folders = await writeTinyModels(temporaryFolder());
  const rlhf = await RlhfEngine.load({ ...folders, dtype: "float32", actorLoraRank: 4, onlyLora: false });
  const before = bitsOf(rlhf.reference), trainer = new PpoTrainer(rlhf, options);
  trainer.trainRlhf(await trainer.generateExperience(prompts));
  expect(bitsOf(rlhf.reference)).toEqual(before);
  expect(bitsOf(rlhf.actor.model)).not.toEqual(before);
});

test("the adapters of actor and critic have learning rates of their own", async () => {
  const moved = async (rates: PpoOptions) => {
    const folders = await writeTinyModels(temporaryFolder());
    const rlhf = await RlhfEngine.load({ ...folders, dtype: "float32", actorLoraRank: 2, criticLoraRank: 2 });
    const trainer = new PpoTrainer(rlhf, { ...options, actorLearningRate: 0, criticLearningRate: 0, ...rates });
    const adapters = () => [rlhf.actor, rlhf.critic].map(({ model }) => model.lora?.blocks.flatMap(({ flat }) => flat.numbers()));
    const before = adapters();
    trainer.trainRlhf(await trainer.generateExperience(prompts));
    return adapters().map((now, i) => JSON.stringify(now) !== JSON.stringify(before[i]));
  };
  expect(await moved({})).toEqual([false, false]);
  expect(await moved({ actorLoraLearningRate: 1e-3 })).toEqual([true, false]);
  expect(await moved({ criticLoraLearningRate: 1e-3 })).toEqual([false, true]);
});

test("rounded rollouts are those of the merged weights, and corrected for", async () => {
  const rlhf = await RlhfEngine.load({
    ...(await writeTinyModels(temporaryFolder())), dtype: "float32", actorLoraRank: 4, rolloutWeights: "int8",
  });
  const trainer = new PpoTrainer(rlhf, { ...options, rolloutWeights: "int8" });
  for (let i = 0; i < 3; i++) trainer.trainRlhf(await trainer.generateExperience(prompts)); // a gap above 0.1 nats ends the run
  expect(trainer.trainRlhf(await trainer.generateExperience(prompts)).metrics.kl).not.toBe(0);
});

test.each<[Partial<PpoConfig>, string]>([
  [{ actorLoraRank: 4, loraDropout: 0.1 },
    "--lora-dropout: expected 0 in PPO, got 0.1: with dropout the update's log-probabilities would not be those that the answers were " +
      "sampled with, and the first ratio not 1"],
  [{ loraAlpha: 16 }, "--lora-alpha: only adapters use it; give --actor-lora-rank or --critic-lora-rank too"],
  [{ actorLoraRank: 4, criticLoraLearningRate: 1e-4 }, "--critic-lora-learning-rate: only adapters use it; give --critic-lora-rank too"],
  [{ criticLoraRank: 4, actorLoraLearningRate: 1e-4 }, "--actor-lora-learning-rate: only adapters use it; give --actor-lora-rank too"],
  [{ actorLoraRank: 4, actorAdapter: "a" },
    "--actor-adapter: not beside --actor-lora-rank: the new adapter would belong to a model that is nowhere on disk; make it first: " +
      "tschat merge"],
])("%j is refused by the command and by the engine", async (settings, message) => {
  const expected = { name: "ConfigError", code: "E_CONFIG", message };
  const given = { actor: "a", rewardModel: "r", data: ["d"], output: "o", ...settings };
  expect(failure(() => completeConfig(ppoSettings, given))).toEqual(expected);
  expect(await rejection(() => RlhfEngine.load({ actor: "a", rewardModel: "r", ...settings }))).toEqual(expected);
});

test("tschat ppo leaves the merged actor and its adapter, and starts from one", async () => {
  const folder = temporaryFolder(), folders = await writeTinyModels(folder);
  const data = (name: string, count: number) =>
    writeJsonl(join(folder, name), Array.from({ length: count }, (_, i) => ({ prompt: `question ${i}` })));
  const train = async (output: string, settings: Partial<PpoConfig>) => {
    const config = completeConfig(ppoSettings, {
      ...folders, output: join(folder, output), data: [data("prompts.jsonl", 8)], evalData: data("eval.jsonl", 2), dtype: "float32",
      rolloutBatchSize: 4, miniBatchSize: 4, maxNewTokens: 6, maxSteps: 1, ...settings,
    });
    const run = new MemoryRun(config.output);
    await trainPpo(config, run);
    return run;
  };
  const run = await train("first", { actorLoraRank: 2, actorLoraLearningRate: 1e-2 });
  // q and o [32, 32], k and v [16, 32], gate and up [48, 32], down [32, 48] in each of two layers: 2 * rank * (2 * 64 + 2 * 48 + 3 * 80)
  expect(run.notes.find((note) => note.startsWith("actor:"))).toMatch(/; actor: LoRA of rank 2 on 14 linears, 1,856 parameters$/);
  expect(existsSync(join(run.modelFolder, "adapter", "adapter_model.safetensors"))).toBe(true);
  expect(JSON.parse(readFileSync(join(run.modelFolder, "adapter", "adapter_config.json"), "utf8"))).toMatchObject({
    peft_type: "LORA", task_type: "CAUSAL_LM", r: 2, lora_alpha: 16, base_model_name_or_path: folders.actor,
  });
  const onTop = await train("second", { actorAdapter: join(run.modelFolder, "adapter"), actorLearningRate: 0 });
  const weights = (of: MemoryRun) => [...readTensors(join(of.modelFolder, "model.safetensors"))];
  expect(weights(onTop)).toEqual(weights(run)); // nothing was learned, so it is base + adapter
  expect(onTop.series("kl")).toEqual([0]); // the reference has the adapter too
});
