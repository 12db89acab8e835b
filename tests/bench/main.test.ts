import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test, vi } from "vitest";
import { commands, runBench } from "../../bench/program.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const main = fileURLToPath(new URL("../../bench/main.ts", import.meta.url));
const model = fileURLToPath(new URL("../fixtures/goldens/tiny-llama-tied", import.meta.url));
/** Its context is 128 tokens, its vocabulary 512. */
const quick = ["--model", model, "--dtype", "float32", "--threads", "1", "--repeats", "1"];

interface Outcome {
  status: number;
  stdout: string;
  stderr: string;
}

/** One command line in this process. */
async function bench(...args: string[]): Promise<Outcome> {
  const texts = { stdout: "", stderr: "" };
  const spies = (["stdout", "stderr"] as const).map((name) => vi.spyOn(process[name], "write").mockImplementation((text) => {
    texts[name] += String(text);
    return true;
  }));
  try {
    const status = await runBench(args);
    return { status, ...texts };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The rows that a run prints as JSON, every line of it. */
async function rowsOf(...args: string[]): Promise<Record<string, unknown>[]> {
  const { status, stdout, stderr } = await bench(...args, "--json");
  expect([status, stderr]).toEqual([0, ""]);
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** Differences of times, which the noise of so few tokens can make negative. */
function expectNumbers(row: Record<string, unknown> | undefined, names: readonly string[]): void {
  for (const name of names) expect(row?.[name], name).toBeTypeOf("number");
}

function expectPositive(row: Record<string, unknown> | undefined, names: readonly string[]): void {
  for (const name of names) expect(row?.[name], name).toBeGreaterThan(0);
}

const limits = [
  "readGigabytesPerSecondBefore", "readGigabytesPerSecondAfter", "productGigaflopsPerSecondBefore", "productGigaflopsPerSecondAfter",
];

describe("bench", () => {
  test("prints its benchmarks and, for each, flags and examples", async () => {
    const { status, stdout } = await bench("--help");
    expect(status).toBe(0);
    for (const { name } of commands) expect(stdout).toMatch(new RegExp(`^  ${name} \\[options\\]`, "m"));
    for (const { name, examples } of commands) for (const example of examples) expect(example).toMatch(`npm run bench -- ${name} `);
    expect((await bench("decode", "--help")).stdout).toContain("--batch <n,n,...>");
  });

  test.each([
    [["deode"], "unknown command deode; did you mean decode?"],
    [["decode", "--bach", "1"], "unknown flag --bach; did you mean --batch?"],
    [["decode"], "--model: required"],
    [["decode", "--model", "no-such-folder"], "no-such-folder: no such file or folder here"],
    [["decode", "--model", model, "--batch", "0"], '--batch: expected whole numbers of at least 1 with commas between them, got "0"'],
    [["decode", "--model", model, "--batch", "1,x"], '--batch: expected whole numbers of at least 1 with commas between them, got "1,x"'],
    [["decode", "--model", model, "--new-tokens", "1"], "--new-tokens: expected a whole number of at least 2, got 1"],
    [["decode", "--model", model], "prompts of 256 and answers of 128 tokens do not fit the model's context of 128"],
    [["decode", "--model", model, "--against", "hf"], "--against: needs --peers"],
    [["decode", "--model", model, "--peers", "no-such-folder", "--against", "hf"], "--peers: no-such-folder/venv/bin/python is missing"],
    [["context", "--model", model, "--contexts", "64,256"], "at most the model's context of 128, got 64,256"],
    [["sampling", "--model", model, "--vocab", "5"], "--vocab: not beside --model"],
    [["train-step", "--model", model], "--length: expected at most the model's context of 128, got 384"],
    [["train-step", "--model", model, "--length", "1"], "--length: expected at least 2 tokens"],
    [["train-step", "--model", model, "--length", "64", "--micro-batch-tokens", "63"], "expected at least --length 64, got 63"],
    [["train-step", "--model", model, "--against", "hf"], "--against: needs --peers"],
    [["ppo-iteration", "--model", model], "prompts of 256 and answers of 128 tokens do not fit the model's context of 128"],
    [["ppo-iteration", "--model", model, "--micro-batch-tokens", "383"], "expected at least --prompt-length + --new-tokens (384), got 383"],
    [["ppo-iteration", "--model", model, "--format", "text"], "--format: needs --data"],
    [["ppo-iteration", "--model", model, "--peer-dschat", "x"], "--peer-dschat: needs --peers"],
    [["ppo-iteration", "--model", model, "--peers", "no-such-folder"], "--peers: no-such-folder/venv/bin/python is missing"],
    [["memory", "--model", model, "--micro-batch-tokens", "383"], "expected at least --prompt-length + --new-tokens (384), got 383"],
  ])("refuses %j", async (args, message) => {
    const { status, stdout, stderr } = await bench(...args);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(message);
  });
});

test("the program prints rows and nothing else", () => {
  const args = ["sampling", ...quick, "--batch", "1", "--json"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { encoding: "utf8" });
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout.trimEnd().split("\n").map((line) => JSON.parse(line).bench)).toEqual(Array(5).fill("sampling"));
});

describe("rows", () => {
  test("decode has one for each batch, with speed, limit and memory", async () => {
    const rows = await rowsOf("decode", ...quick, "--batch", "1,3", "--prompt-length", "8", "--new-tokens", "4");
    expect(rows).toMatchObject([1, 3].map((batch) => ({
      bench: "decode", model: "tiny-llama-tied", dtype: "float32", threads: 1, batch, promptLength: 8, newTokens: 4,
      boundBy: expect.stringMatching(/^(memory|compute)$/),
    })));
    for (const row of rows) {
      expectPositive(row, ["prefillTokensPerSecond", "limitTokensPerSecond", "peakBytes", ...limits]);
      expectNumbers(row, ["decodeTokensPerSecond", "millisecondsPerStep", "shareOfLimit", "javascriptShare"]);
    }
    // All of float32: 115,008 weights (see roofline.test.ts), and keys and values of 2 layers with 1 head of 16 numbers for 12 tokens.
    expect(rows[1]?.["plannedBytes"]).toBe(4 * (115_008 + 3 * 12 * 2 * 2 * 16));
  });

  test("prefill has one for each batch and length", async () => {
    const rows = await rowsOf("prefill", ...quick, "--batch", "2", "--prompt-length", "16");
    expect(rows).toMatchObject([{ batch: 2, promptLength: 16 }]);
    for (const row of rows) expectPositive(row, ["prefillTokensPerSecond", "limitTokensPerSecond", "shareOfLimit", ...limits]);
  });

  test("context starts at no growth and counts the cache's bytes", async () => {
    const rows = await rowsOf("context", ...quick, "--contexts", "16,32", "--new-tokens", "4");
    // Cached tokens on average: 12 + 4 / 2 and 28 + 4 / 2; a token has 2 * 2 layers * 16 numbers of 4 bytes.
    expect(rows).toMatchObject([
      { context: 16, growthMilliseconds: 0, cacheReadMilliseconds: 0, cacheBytes: 14 * 256 }, { context: 32, cacheBytes: 30 * 256 },
    ]);
    expectPositive(rows[1], ["cacheReadMilliseconds", ...limits]);
    expectNumbers(rows[1], ["millisecondsPerStep", "growthMilliseconds"]);
  });

  test("sampling has one for each batch and setting", async () => {
    const rows = await rowsOf("sampling", ...quick, "--batch", "1,2");
    const settings = ["greedy", "temperature 1", "top-k 50", "top-p 0.95", "top-k 50, top-p 0.95"];
    expect(rows).toMatchObject([1, 2].flatMap((batch) => settings.map((setting) => ({ vocab: 512, batch, setting }))));
    for (const row of rows) expectPositive(row, ["tokensPerSecond", "shareOfReading"]);
  });

  test("switch shows both directions", async () => {
    const [row] = await rowsOf("switch", ...quick);
    expect(row).toMatchObject({ weightBytes: 4 * 115_008 });
    for (const name of ["enterGenerateMilliseconds", "enterTrainMilliseconds", "firstEnterGenerateMilliseconds"]) {
      expect(row?.[name], name).toBeGreaterThanOrEqual(0);
    }
    expectPositive(row, ["requestAfterSwitchMilliseconds", "requestMilliseconds", "weightReadMilliseconds", ...limits]);
  });

  test("train-step has one for each batch and length, with time, limit and the growth over the first", async () => {
    const rows = await rowsOf("train-step", ...quick, "--batch", "1,3", "--length", "8", "--micro-batch-tokens", "16");
    expect(rows).toMatchObject([1, 3].map((batch) => (
      { bench: "train-step", batch, length: 8, tokens: 8 * batch, microBatchTokens: 16, checkpointing: "false" }
    )));
    expect(rows[0]).toMatchObject({ growthRatio: 1 });
    for (const row of rows) {
      expectPositive(row, ["tokensPerSecond", "secondsForward", "secondsBackward", "secondsOptimizer", "shareOfLimit", "javascriptShare"]);
      expectPositive(row, ["microsecondsPerToken", "growthRatio", "peakResidentBytes", ...limits]);
      expect(row["gcShare"]).toBeGreaterThanOrEqual(0);
    }
  });

  test("train-step with adapters counts no gradient of the weights", async () => {
    const sizes = ["--batch", "2", "--length", "8"];
    const [adapted] = await rowsOf("train-step", ...quick, ...sizes, "--lora-rank", "2");
    const [full] = await rowsOf("train-step", ...quick, ...sizes);
    // The work over the time and the limit: four operations a weight and token instead of six.
    const work = (row: typeof full) => Number(row?.["shareOfLimit"]) / Number(row?.["tokensPerSecond"]);
    const limit = (row: typeof full) =>
      (Number(row?.["productGigaflopsPerSecondBefore"]) + Number(row?.["productGigaflopsPerSecondAfter"])) / 2;
    expect((work(adapted) * limit(adapted)) / (work(full) * limit(full))).toBeCloseTo(4 / 6, 2);
    expect(adapted).toMatchObject({ loraRank: 2 });
  });

  test("ppo-iteration has the stages, the answers and, where asked for, a picture", async () => {
    const folder = temporaryFolder();
    const [actor, chart] = [join(folder, "actor"), join(folder, "stages.svg")];
    writeTinyModel(actor, { family: "llama", tokenizer: true, config: { max_position_embeddings: 128 } });
    const sizes = ["--batch", "3", "--prompt-length", "8", "--new-tokens", "4", "--chart", chart];
    const [row] = await rowsOf("ppo-iteration", ...quick, "--model", actor, ...sizes);
    expect(row).toMatchObject({ batch: 3, newTokens: 4, untilEnd: "false", promptTokens: 24, responseTokens: 12 });
    expectPositive(row, ["samplesPerSecond", "secondsGenerate", "secondsScore", "secondsTrain", "secondsSwitch", "peakResidentBytes"]);
    expectPositive(row, ["shareOfLimit", "shareOfLimitGenerate", "shareOfLimitScore", "shareOfLimitTrain", ...limits]);
    expect(readFileSync(chart, "utf8")).toContain("Seconds of one PPO iteration, 3 prompts");
  });

  test("memory sets peaks beside what must be there", async () => {
    const actor = writeTinyModel(join(temporaryFolder(), "actor"), {
      family: "llama", tokenizer: true, config: { max_position_embeddings: 128, tie_word_embeddings: true },
    });
    const rows = await rowsOf("memory", ...quick, "--model", actor, "--batch", "2", "--prompt-length", "8", "--new-tokens", "4");
    // Vocabulary 400, hidden 32; a layer: queries and output 2 * 32 * 32, keys and values 2 * 32 * 16, MLP 3 * 32 * 48, norms 2 * 32.
    const parameters = 400 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32;
    // 16 bytes a parameter that trains, 4 one that does not; actor and reference, critic and reward model, and one gradient at a time.
    const planned = { "training step": 16 * parameters, "PPO iteration": (2 * (16 + 4) - 4) * parameters };
    expect(rows).toMatchObject((["training step", "PPO iteration"] as const).flatMap((work) => (
      ["false", "true"].map((checkpointing) => ({ work, checkpointing, plannedBytes: planned[work] }))
    )));
    for (const row of rows) expectPositive(row, ["seconds", "peakBytes", "plannedRatio", "peakResidentBytes"]);
  });

  test("continuous compares three ways to batch the same requests", async () => {
    const requests = ["--requests", "6", "--slots", "2", "--prompt-length", "4", "--mean-tokens", "4", "--max-tokens", "8"];
    const [row] = await rowsOf("continuous", ...quick, ...requests);
    expect(row).toMatchObject({ requests: 6, slots: 2, promptLength: 4 });
    expectPositive(row, ["usefulTokens", "continuousTokensPerSecond", "fixedTokensPerSecond", "shrinkingTokensPerSecond"]);
    expect(row?.["fixedTokens"]).toBeGreaterThanOrEqual(Number(row?.["usefulTokens"]));
  });
});
