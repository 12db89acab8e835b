import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import * as api from "../../src/index.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { writeJsonl } from "../pipeline/memory-run.ts";
import { writeTinyModels } from "../ppo/tiny-rlhf.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const example = fileURLToPath(new URL("../../examples/rlhf-loop.ts", import.meta.url));

/** Runs the example as a user does, against the built package. */
function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const env = { PATH: process.env["PATH"], OMP_NUM_THREADS: "1" };
  return new Promise((resolve) => {
    execFile(process.execPath, [example, ...args], { env }, (error, out, err) =>
      resolve({ code: error ? Number(error.code) : 0, out, err }),
    );
  });
}

test("the example runs PPO on folders and leaves a model that loads", async () => {
  const folder = temporaryFolder(),
    output = join(folder, "out");
  const { actor, rewardModel } = await writeTinyModels(folder);
  const prompts = writeJsonl(
    join(folder, "prompts.jsonl"),
    Array.from({ length: 20 }, (_, i) => ({ prompt: `question ${i}` })),
  );
  const { code, out, err } = await run(actor, rewardModel, prompts, output);
  expect([code, err]).toEqual([0, ""]);
  const lines = out.trim().split("\n");
  expect(lines).toHaveLength(3); // 20 prompts are two rollouts of at most 16
  for (const line of lines.slice(0, 2))
    expect(line).toMatch(/^policy loss -?\d\.\d{4} {2}value loss \d+\.\d{4} {2}reward -?\d+\.\d{3} {2}KL -?\d+\.\d{3}$/);
  expect(lines[0]).toMatch(/KL -?0\.000$/); // nothing has moved yet
  expect((await CausalLM.load(output)).generationConfig.eos_token_id).toBe((await Tokenizer.load(output)).endOfTurnTokenId);
});

test("the example says how it is used", async () => {
  const { code, err } = await run();
  expect(code).toBe(1);
  expect(err).toContain("usage: node examples/rlhf-loop.ts <SFT model> <reward model> <prompts.jsonl> <output folder>");
});

test("the example has at most 40 lines and imports nothing but the package", () => {
  const text = readFileSync(example, "utf8");
  expect(text.trimEnd().split("\n").length).toBeLessThanOrEqual(40);
  expect([...text.matchAll(/from "([^"]+)"/g)].map(([, name]) => name)).toEqual(["tschat"]);
});

test("the package exports what scripts rely on", () => {
  expect(Object.keys(api)).toEqual(
    expect.arrayContaining([
      "CausalLM",
      "RewardModel",
      "Tokenizer",
      "HybridEngine",
      "RlhfEngine",
      "PpoTrainer",
      "TrainEngine",
      "Tensor",
      "tensor",
      "noGrad",
      "tidy",
      "ppo",
      "reward",
      "data",
      "ConfigError",
      "CheckpointError",
      "NativeError",
      "OutOfMemoryError",
      "DistributedError",
      "TrainingError",
      "Interrupted",
    ]),
  );
  const { ppo, reward, data } = api;
  for (const f of [
    ppo.tokenRewards,
    ppo.estimateAdvantages,
    ppo.policyLoss,
    ppo.valueLoss,
    reward.pairwiseLoss,
    data.splitBounds,
    data.shuffleIndices,
  ])
    expect(f).toBeTypeOf("function");
});
