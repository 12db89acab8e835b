import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { pairFile, pairs, smallSteps, tinyModel, tschat } from "./cli.ts";

const ppoFlags = ["--ppo.rollout-batch-size", "4", "--ppo.mini-batch-size", "4", "--ppo.max-new-tokens", "6"];

/** `tschat train` on the pairs. */
function trainArguments(folder: string, ...more: string[]): string[] {
  const model = existsSync(join(folder, "tiny")) ? join(folder, "tiny") : tinyModel(folder);
  return [
    "train",
    "--model",
    model,
    "--data",
    pairFile(folder),
    "--output",
    join(folder, "run"),
    "--max-steps",
    "2",
    ...smallSteps,
    ...ppoFlags,
    ...more,
  ];
}

const readJson = (path: string) => JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
const readLines = (path: string) =>
  readFileSync(path, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe("tschat train", () => {
  test("runs all three steps and leaves models, metrics, samples, settings and summaries", async () => {
    const folder = temporaryFolder(),
      run = (...names: string[]) => join(folder, "run", ...names);
    const { code, out, err } = await tschat(trainArguments(folder));
    expect([code, err]).toEqual([0, ""]);
    for (const step of ["sft", "reward", "ppo"]) {
      for (const file of [
        "config.yaml",
        "metrics.jsonl",
        "summary.json",
        "model/config.json",
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/chat_template.jinja",
      ]) {
        expect(existsSync(run(step, file)), `${step}/${file}`).toBe(true);
      }
      expect(existsSync(run(step, "run.lock")), step).toBe(false);
      expect(out).toContain(`${step} 2/2  took `);
    }

    const [sft, reward, ppo] = ["sft", "reward", "ppo"].map((step) => readLines(run(step, "metrics.jsonl")));
    expect(sft?.map(({ step }) => step)).toEqual([0, 1, 2, 2]);
    expect(Object.keys(sft?.[1] ?? {})).toEqual(
      expect.arrayContaining(["step", "time", "loss", "gradientNorm", "learningRate", "tokensPerSecond"]),
    );
    expect(Object.keys(reward?.[1] ?? {})).toEqual(expect.arrayContaining(["loss", "accuracy", "gradientNorm", "learningRate"]));
    expect(Object.keys(ppo?.[1] ?? {})).toEqual(
      expect.arrayContaining([
        "policyLoss",
        "valueLoss",
        "reward",
        "kl",
        "clipFraction",
        "entropy",
        "responseLength",
        "rolloutTokensPerSecond",
        "scoringTokensPerSecond",
        "updateTokensPerSecond",
      ]),
    );
    expect(readJson(run("sft", "summary.json"))).toMatchObject({ steps: 2, trainSamples: 8, evalSamples: 4 });
    expect(readJson(run("reward", "summary.json"))).toMatchObject({ steps: 2, trainPairs: 8, evalPairs: 4 });
    expect(readJson(run("ppo", "summary.json"))).toMatchObject({ iterations: 2, trainPrompts: 8, evalPrompts: 4 });
    const all = readJson(run("summary.json"));
    expect(all).toMatchObject({ sft: { steps: 2 }, reward: { steps: 2 }, ppo: { iterations: 2 } });
    expect(readLines(run("ppo", "samples.jsonl")).filter(({ heldOut }) => heldOut !== undefined)).toHaveLength(4);

    const [actor, tokenizer] = [await CausalLM.load(run("ppo", "model"), { dtype: "float32" }), await Tokenizer.load(run("ppo", "model"))];
    const prompt = await tokenizer.encodePrompt([{ role: "user", content: "question 1" }]);
    expect(new HybridEngine(actor).generate([prompt], { maxNewTokens: 3 }).responses[0]?.length).toBeGreaterThan(0);
    const scorer = await RewardModel.load(run("reward", "model"), { dtype: "float32" });
    expect(Number.isFinite(noGrad(() => scorer.scoreRows([prompt]).item()))).toBe(true);
  });

  test("reuses finished steps, refuses other settings for them, and trains them again with --force", async () => {
    const folder = temporaryFolder();
    await tschat(trainArguments(folder, "--step", "sft"));
    const model = join(folder, "run", "sft", "model", "model.safetensors");
    const written = statSync(model).mtimeMs;

    const again = await tschat(trainArguments(folder, "--step", "sft,reward"));
    expect([again.code, again.err]).toEqual([0, ""]);
    expect(again.out).toContain(`sft: finished before, reused from ${join(folder, "run", "sft")}\n`);
    expect(again.out).toContain("reward 2/2");
    expect(statSync(model).mtimeMs).toBe(written);

    const changed = await tschat(trainArguments(folder, "--step", "sft", "--sft.learning-rate", "1e-3"));
    expect(changed.code).toBe(2);
    expect(changed.err).toMatch(/was trained with other settings: learningRate was 0\.00002, now 0\.001; /);

    const forced = await tschat(trainArguments(folder, "--step", "sft", "--sft.learning-rate", "1e-3", "--force"));
    expect([forced.code, forced.err]).toEqual([0, ""]);
    expect(statSync(model).mtimeMs).toBeGreaterThan(written);
    expect(forced.out).toContain("sft 2/2");
  });

  test("runs PPO alone on models that are there", async () => {
    const folder = temporaryFolder();
    expect((await tschat(trainArguments(folder, "--step", "sft,reward"))).code).toBe(0);
    const { code, out, err } = await tschat(trainArguments(folder, "--step", "ppo"));
    expect([code, err]).toEqual([0, ""]);
    expect(out).toContain("ppo 2/2");
    expect(out).not.toMatch(/^(sft|reward) /m);
    expect(readJson(join(folder, "run", "summary.json"))).toMatchObject({ sft: { steps: 2 }, ppo: { iterations: 2 } });
  });
});

describe("tschat sft", () => {
  test.each<[string, (text: string) => string | Buffer]>([
    ["gz", (text) => gzipSync(text)],
    ["zst", (text) => zstdCompressSync(text)],
  ])("takes compressed data: .jsonl.%s", async (ending, compress) => {
    const folder = temporaryFolder(),
      data = join(folder, `demonstrations.jsonl.${ending}`);
    writeFileSync(data, compress(pairs.map(({ prompt, chosen }) => `${JSON.stringify({ prompt, completion: chosen })}\n`).join("")));
    const { code, out, err } = await tschat([
      "sft",
      "--model",
      tinyModel(folder),
      "--data",
      data,
      "--output",
      join(folder, "sft"),
      "--max-steps",
      "1",
      ...smallSteps,
      "--save-every",
      "1",
    ]);
    expect([code, err]).toEqual([0, ""]);
    expect(out).toContain("demonstrations: 8 to train on, 4 held out\n");
    expect(existsSync(join(folder, "sft", "checkpoint-000001", "model.safetensors"))).toBe(true);
  });

  test("lowers the held-out perplexity that it prints", async () => {
    const folder = temporaryFolder();
    const { code, out } = await tschat([
      "sft",
      "--model",
      tinyModel(folder),
      "--data",
      pairFile(folder),
      "--output",
      join(folder, "sft"),
      "--max-steps",
      "20",
      "--learning-rate",
      "5e-3",
      ...smallSteps,
    ]);
    expect(code).toBe(0);
    const { perplexityBefore, perplexityAfter } = readJson(join(folder, "sft", "summary.json")) as {
      perplexityBefore: number;
      perplexityAfter: number;
    };
    expect(perplexityAfter).toBeLessThan(perplexityBefore / 2);
    expect(out).toContain(perplexityAfter.toFixed(2));
  });
});
