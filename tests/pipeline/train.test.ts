import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { RunStep } from "../../src/config/step.ts";
import { pipelineReport } from "../../src/pipeline/report.ts";
import { resolveTrain } from "../../src/pipeline/resolve.ts";
import { type PipelineSummary, trainAll } from "../../src/pipeline/train.ts";
import { assertClose } from "../assert-close.ts";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { MemoryRun, writeJsonl } from "./memory-run.ts";

const pairs = Array.from({ length: 12 }, (_, i) => ({ prompt: `question ${i}`, chosen: `yes ${i}`, rejected: `no, not ${i} at all` }));

/** Flags of a small run of all steps below `folder`. */
function flagsFor(folder: string): Record<string, unknown> {
  return {
    model: writeTinyModel(join(folder, "tiny"), { family: "llama", tokenizer: true, config: { max_position_embeddings: 128 } }),
    output: join(folder, "run"),
    data: [writeJsonl(join(folder, "data.jsonl"), pairs)],
    evalSize: 4,
    dtype: "float32",
    maxSteps: 2,
    "sft.maxSeqLen": 128,
    "reward.maxSeqLen": 128,
    "ppo.rolloutBatchSize": 4,
    "ppo.miniBatchSize": 4,
    "ppo.maxNewTokens": 6,
    "ppo.maxPromptLen": 100,
  };
}

/** Runs steps in memory and keeps what each was given and did. */
function recorder(): { runs: Map<string, MemoryRun>; runStep: RunStep } {
  const runs = new Map<string, MemoryRun>();
  return {
    runs,
    runStep: async ({ name }, config, train) => {
      const run = new MemoryRun(config.output);
      runs.set(name, run);
      return { ...(await train(config, run)), seconds: 1.5 };
    },
  };
}

describe("trainAll", () => {
  test("runs SFT, reward model and PPO in this order, each on what the one before left", async () => {
    const folder = temporaryFolder(),
      flags = flagsFor(folder);
    const { runs, runStep } = recorder();
    const summary = await trainAll(resolveTrain({ flags, file: undefined }), runStep);
    expect([...runs.keys()]).toEqual(["sft", "reward", "ppo"]);
    expect(summary).toMatchObject({
      sft: { steps: 2, trainSamples: 8, evalSamples: 4, seconds: 1.5 },
      reward: { steps: 2, trainPairs: 8, evalPairs: 4 },
      ppo: { iterations: 2, trainPrompts: 8, evalPrompts: 4 },
    });
    // Every step holds out the same records: the evaluation of PPO is on prompts that no step has trained on.
    const heldOut = runs.get("ppo")?.samples.flatMap(({ prompt, heldOut: i }) => (i === undefined ? [] : [prompt])) ?? [];
    expect(heldOut).toHaveLength(4);
    const [actor, tokenizer] = [
      await CausalLM.load(join(folder, "run", "ppo", "model"), { dtype: "float32" }),
      await Tokenizer.load(join(folder, "run", "ppo", "model")),
    ];
    const prompt = await tokenizer.encodePrompt([{ role: "user", content: "question 3" }]);
    expect(new HybridEngine(actor).generate([prompt], { maxNewTokens: 4 }).responses[0]?.length).toBeGreaterThan(0);
  });

  test("runs the chosen steps alone", async () => {
    const { runs, runStep } = recorder();
    const summary = await trainAll(resolveTrain({ flags: { ...flagsFor(temporaryFolder()), step: "sft" }, file: undefined }), runStep);
    expect([...runs.keys()]).toEqual(["sft"]);
    expect(Object.keys(summary)).toEqual(["sft"]);
  });
});

describe("PPO's summary", () => {
  test("is computed from what it sampled on the held-out prompts before and after", async () => {
    const { runs, runStep } = recorder();
    const { ppo } = await trainAll(resolveTrain({ flags: flagsFor(temporaryFolder()), file: undefined }), runStep);
    const run = runs.get("ppo");
    const samples = (run?.samples ?? []).filter(({ heldOut }) => heldOut !== undefined);
    const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;
    // sqrt(variance / n) with the unbiased variance: the sum of squares over n (n - 1)
    const error = (values: readonly number[]) => Math.sqrt(mean(values.map((x) => (x - mean(values)) ** 2)) / (values.length - 1));
    const [before, after] = [samples.map(({ scoreBefore }) => Number(scoreBefore)), samples.map(({ scoreAfter }) => Number(scoreAfter))];
    const differences = after.map((score, i) => score - (before[i] ?? 0));
    assertClose([ppo?.before.reward.mean ?? Number.NaN, ppo?.before.reward.standardError ?? Number.NaN], [mean(before), error(before)]);
    assertClose([ppo?.after.reward.mean ?? Number.NaN, ppo?.after.reward.standardError ?? Number.NaN], [mean(after), error(after)]);
    assertClose(
      [ppo?.rewardDifference.mean ?? Number.NaN, ppo?.rewardDifference.standardError ?? Number.NaN],
      [mean(differences), error(differences)],
    );
    assertClose(ppo?.before.kl.mean ?? Number.NaN, 0, { atol: 1e-5 }); // the actor starts at the reference
    expect(run?.series("evalReward")).toEqual([ppo?.before.reward.mean, ppo?.after.reward.mean]);
    expect(run?.series("reward")).toHaveLength(2);
  });
});

test("the report shows held-out figures before and after, the paired difference in standard errors, answers, and how to chat", () => {
  const figures = {
    reward: { mean: 0.1, standardError: 0.05 },
    kl: { mean: 0, standardError: 0 },
    responseLength: 12.25,
    finished: 0.5,
    distinct1: 0.4,
    distinct2: 0.8,
  };
  const summary: PipelineSummary = {
    sft: { steps: 3, trainSamples: 8, evalSamples: 4, perplexityBefore: 12.346, perplexityAfter: 4.5, seconds: 61 },
    reward: {
      steps: 3,
      trainPairs: 8,
      evalPairs: 4,
      accuracyBefore: 0.5,
      accuracyAfter: 0.9,
      marginAfter: 1,
      scoreScale: { mean: 0, std: 1 },
      seconds: 2,
    },
    ppo: {
      iterations: 5,
      trainPrompts: 8,
      evalPrompts: 64,
      before: figures,
      after: { ...figures, reward: { mean: 0.9, standardError: 0.06 }, kl: { mean: 3.2, standardError: 0.25 } },
      rewardDifference: { mean: 0.8, standardError: 0.1 },
      examples: [{ prompt: "Hi\n there", before: "Well,  hm", after: "Hello." }],
      seconds: 3,
    },
  };
  const text = pipelineReport(summary, "runs/x/ppo");
  const rows = text.split("\n").map((line) =>
    line
      .split(/[\u2502|]/)
      .map((cell) => cell.trim())
      .filter((cell) => cell !== ""),
  );
  const row = (start: string) => rows.find(([first]) => first?.startsWith(start))?.slice(1, 3);
  expect(row("SFT: perplexity")).toEqual(["12.35", "4.50"]);
  expect(row("Reward model: accuracy")).toEqual(["50.0%", "90.0%"]);
  expect(row("PPO: reward")).toEqual(["0.100 +- 0.050", "0.900 +- 0.060"]);
  expect(row("PPO: KL")).toEqual(["0.000 +- 0.000", "3.200 +- 0.250"]);
  expect(text).toContain("paired over 64 held-out prompts: +0.800 +- 0.100 (8.0 standard errors)");
  expect(text).toContain("  prompt  Hi there\n  before  Well, hm\n  after   Hello.");
  expect(text.split("\n").at(-1)).toBe("Talk with it:  npm run tschat -- chat runs/x/ppo/model");
});
