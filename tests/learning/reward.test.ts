import { join } from "node:path";
import { expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { type RewardConfig, rewardSettings } from "../../src/reward/config.ts";
import { trainReward } from "../../src/reward/train.ts";
import { normalNumbers, writeTinyModel } from "../model/tiny-model.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const words = ["sun", "moon", "tree", "house", "river", "cat", "dog", "bird", "stone", "road"];

/** Pairs of four words of which the chosen one has a "yes" somewhere and the rejected one a "no". */
function makePairs(count: number, seed: number): object[] {
  const normal = normalNumbers(seed);
  const pick = <Item>(items: readonly Item[]) => items[Math.floor(Math.abs(normal()) * 1000) % items.length];
  const sentence = (word: string) => {
    const list = [pick(words), pick(words), pick(words)];
    list.splice(Math.floor(Math.abs(normal()) * 1000) % 4, 0, word);
    return list.join(" ");
  };
  return Array.from({ length: count }, () => ({
    prompt: `${pick(words)} ${pick(words)}`,
    chosen: sentence("yes"),
    rejected: sentence("no"),
  }));
}

test.each<RewardConfig["objective"]>(["last-token", "deepspeed-chat"])(
  "the reward model learns a synthetic preference in 60 steps: at least 95% of 40 held-out pairs are ranked right, before at most 75% (%s)",
  async (objective) => {
    const folder = temporaryFolder();
    const config = completeConfig(rewardSettings, {
      model: writeTinyModel(join(folder, "tiny"), { family: "llama", tokenizer: true, config: { max_position_embeddings: 128 } }),
      output: join(folder, "run"),
      dtype: "float32",
      seed: 1,
      objective,
      data: [writeJsonl(join(folder, "data.jsonl"), makePairs(200, 1))],
      evalData: writeJsonl(join(folder, "eval.jsonl"), makePairs(40, 2)),
      maxSeqLen: 128,
      miniBatchSize: 16,
      maxSteps: 60,
      learningRate: 1e-2,
    });
    const { accuracyBefore, accuracyAfter, marginAfter } = await trainReward(config, new MemoryRun(config.output));
    expect(accuracyBefore).toBeLessThanOrEqual(0.75);
    expect(accuracyAfter).toBeGreaterThanOrEqual(0.95);
    expect(marginAfter).toBeGreaterThan(0);
  },
);
