import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { type RewardConfig, rewardSettings } from "../../src/reward/config.ts";
import { trainReward } from "../../src/reward/train.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";

interface Pair {
  prompt: string;
  chosen: string;
  rejected: string;
}
const pairs: Pair[] = [
  { prompt: "one", chosen: "a b", rejected: "z" },
  { prompt: "two words", chosen: "c", rejected: "y y y" },
  { prompt: "three", chosen: "d e f", rejected: "x w" },
  { prompt: "four", chosen: "h", rejected: "v" },
  { prompt: "five", chosen: "i j", rejected: "u t" },
  { prompt: "six", chosen: "k", rejected: "s" },
];
const heldOut: Pair[] = [
  { prompt: "seven", chosen: "l m", rejected: "r" },
  { prompt: "eight", chosen: "n", rejected: "q q" },
  { prompt: "nine", chosen: "o", rejected: "p" },
];

interface Trained {
  run: MemoryRun;
  summary: Awaited<ReturnType<typeof trainReward>>;
  model: string;
}

/** Trains a tiny reward model on the pairs in this order. */
async function train(config: Partial<RewardConfig> = {}, records: readonly object[] = pairs): Promise<Trained> {
  const folder = temporaryFolder();
  const model = writeTinyModel(join(folder, "tiny"), { family: "llama", tokenizer: true, config: { max_position_embeddings: 128 } });
  const settings = completeConfig(rewardSettings, {
    model,
    output: join(folder, "run"),
    data: [writeJsonl(join(folder, "data.jsonl"), records)],
    evalData: writeJsonl(join(folder, "eval.jsonl"), heldOut),
    dtype: "float32",
    maxSeqLen: 128,
    microBatchTokens: 4096,
    miniBatchSize: 6,
    maxSteps: 1,
    warmupSteps: 0,
    ...config,
  });
  const run = new MemoryRun(settings.output);
  return { run, summary: await trainReward(settings, run), model };
}

/** Scores of chosen and rejected answers by a saved model. */
async function scoresOf(folder: string, of: readonly Pair[]): Promise<{ chosen: number[]; rejected: number[] }> {
  const [model, tokenizer] = [await RewardModel.load(folder, { dtype: "float32" }), await Tokenizer.load(folder)];
  const score = async (answer: (pair: Pair) => string) => {
    const rows = await Promise.all(
      of.map(
        async (pair) =>
          (
            await tokenizer.encodeConversation([
              { role: "user", content: pair.prompt },
              { role: "assistant", content: answer(pair) },
            ])
          ).tokens,
      ),
    );
    return noGrad(() => model.scoreRows(rows).numbers());
  };
  return { chosen: await score(({ chosen }) => chosen), rejected: await score(({ rejected }) => rejected) };
}

const mean = (values: readonly number[]) => values.reduce((sum, x) => sum + x, 0) / values.length;

describe("the loss of a minibatch", () => {
  // Without a step the saved model is the one that the loss was computed with.
  const untrained = { learningRate: 0, normaliseScores: false };

  test("is the mean over pairs of -log sigmoid(chosen - rejected), and accuracy the share that is ranked right", async () => {
    const { run } = await train(untrained);
    const { chosen, rejected } = await scoresOf(run.modelFolder, pairs);
    const margins = chosen.map((score, i) => score - (rejected[i] ?? 0));
    assertClose(run.series("loss"), [mean(margins.map((margin) => Math.log(1 + Math.exp(-margin))))], { rtol: 1e-5 });
    expect(run.series("accuracy")).toEqual([margins.filter((margin) => margin > 0).length / 6]);
  });

  test("adds centerRewards times the squared sum of both scores", async () => {
    const { run } = await train({ ...untrained, centerRewards: 0.5 });
    const { chosen, rejected } = await scoresOf(run.modelFolder, pairs);
    const terms = chosen.map((a, i) => {
      const b = rejected[i] ?? 0;
      return Math.log(1 + Math.exp(b - a)) + 0.5 * (a + b) ** 2;
    });
    assertClose(run.series("loss"), [mean(terms)], { rtol: 1e-5 });
  });

  test("with DeepSpeed-Chat's objective differs from it, since it takes all tokens from the first that differs", async () => {
    const [last, original] = [await train(untrained), await train({ ...untrained, objective: "deepspeed-chat" })];
    expect(Math.abs((original.run.series("loss")[0] ?? 0) - (last.run.series("loss")[0] ?? 0))).toBeGreaterThan(1e-3);
    expect(original.run.series("accuracy")).toEqual(last.run.series("accuracy")); // both rank by the last token
  });
});

describe("loss, gradient's norm and step", () => {
  // With a large epsilon the step is proportional to the gradient, so weights compare gradients.
  const settings: Partial<RewardConfig> = { learningRate: 1e3, adamEpsilon: 1e4, gradientClip: 1e9, normaliseScores: false };
  const weightsOf = ({ run }: Trained) => [...readTensors(join(run.modelFolder, "model.safetensors"))].map(([, { data }]) => data);

  test.each<[string, Partial<RewardConfig>, Pair[]]>([
    ["last-token, micro-batches of one pair", { microBatchTokens: 256 }, pairs],
    ["deepspeed-chat, micro-batches of one pair", { microBatchTokens: 256, objective: "deepspeed-chat" }, pairs],
    ["last-token, another order", {}, [...pairs].reverse()],
    ["deepspeed-chat, another order", { objective: "deepspeed-chat" }, [...pairs].reverse()],
  ])("do not depend on cut and order: %s", async (_name, changes, records) => {
    const { objective = "last-token" } = changes;
    const [whole, other] = [await train({ ...settings, objective }), await train({ ...settings, ...changes }, records)];
    assertClose(other.run.series("loss"), whole.run.series("loss"), { rtol: 1e-6 });
    assertClose(other.run.series("gradientNorm"), whole.run.series("gradientNorm"), { rtol: 3e-6 });
    for (const [i, weights] of weightsOf(other).entries()) assertClose(weights, weightsOf(whole)[i] ?? [], { rtol: 0, atol: 1e-6 });
  });
});

describe("the saved model", () => {
  const settings: Partial<RewardConfig> = { maxSteps: 8, miniBatchSize: 3, learningRate: 3e-3 };

  test("scales scores so that those of all held-out answers have mean 0 and deviation 1", async () => {
    const { run, summary } = await train(settings);
    const { chosen, rejected } = await scoresOf(run.modelFolder, heldOut);
    const all = [...chosen, ...rejected],
      center = mean(all);
    assertClose(center, 0, { atol: 1e-5 });
    assertClose(Math.sqrt(all.reduce((sum, x) => sum + (x - center) ** 2, 0) / 5), 1, { rtol: 1e-5 });
    expect(JSON.parse(readFileSync(join(run.modelFolder, "config.json"), "utf8"))).toMatchObject({
      architectures: ["LlamaForSequenceClassification"],
      num_labels: 1,
      tschat: { scoreScale: summary.scoreScale },
    });
    const margins = chosen.map((score, i) => score - (rejected[i] ?? 0));
    expect(summary.accuracyAfter).toBe(margins.filter((margin) => margin > 0).length / 3);
    assertClose(summary.marginAfter, mean(margins) * summary.scoreScale.std, { rtol: 1e-4 }); // the summary's is raw
  });

  test("has raw scores when asked for, which differ by that scale alone", async () => {
    const [scaled, raw] = [await train(settings), await train({ ...settings, normaliseScores: false })];
    expect(raw.summary.scoreScale).toEqual({ mean: 0, std: 1 });
    const { mean: center, std } = scaled.summary.scoreScale;
    const [a, b] = [await scoresOf(scaled.run.modelFolder, heldOut), await scoresOf(raw.run.modelFolder, heldOut)];
    assertClose(
      a.chosen.map((score) => score * std + center),
      b.chosen,
      { rtol: 1e-4, atol: 1e-5 },
    );
  });

  test("never pads with the end token", async () => {
    const { run } = await train(settings);
    const config = JSON.parse(readFileSync(join(run.modelFolder, "config.json"), "utf8")) as { pad_token_id: number };
    const { endOfTurnTokenId, padTokenId } = await Tokenizer.load(run.modelFolder);
    expect(config.pad_token_id).toBe(padTokenId);
    expect(padTokenId).not.toBe(endOfTurnTokenId);
  });

  test("is the same bit for bit for the same seed, and another for another", async () => {
    const bytes = ({ run }: Trained) => readFileSync(join(run.modelFolder, "model.safetensors"));
    const [first, again, other] = [await train(settings), await train(settings), await train({ ...settings, seed: 9 })];
    expect(bytes(again).equals(bytes(first))).toBe(true);
    expect(bytes(other).equals(bytes(first))).toBe(false);
  });
});

test("pairs longer than the model's context are left out and counted", async () => {
  const { run, summary } = await train({ maxSeqLen: 200 }, [...pairs, { prompt: "and ".repeat(200), chosen: "x", rejected: "y" }]);
  expect(summary.trainPairs).toBe(6);
  expect(run.notes).toContain("maxSeqLen: 128 instead of 200: the model's context allows no more");
  expect(run.notes).toContain("pairs: 1 left out: longer than maxSeqLen 128");
});

test("data without rejected answers is refused with file, line and field", async () => {
  const error = await rejection(() => train({}, [{ prompt: "one", completion: "a" }]));
  expect(error).toMatchObject({ name: "ConfigError", code: "E_CONFIG" });
  expect(error.message).toMatch(/data\.jsonl:1: field "rejected": expected an answer that was not preferred/);
});
