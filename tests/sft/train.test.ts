import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { completeConfig } from "../../src/config/resolve.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { type SftConfig, sftSettings } from "../../src/sft/config.ts";
import { perplexity, trainSft } from "../../src/sft/train.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { MemoryRun, writeJsonl } from "../pipeline/memory-run.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const demonstrations = [
  { prompt: "one", completion: "a b" },
  { prompt: "two words", completion: "c" },
  { prompt: "three", completion: "d e f g" },
  { prompt: "and four", completion: "h" },
  { prompt: "five of them", completion: "i j" },
  { prompt: "six", completion: "k" },
];
const heldOut = [
  { prompt: "seven", completion: "l m" },
  { prompt: "eight and more", completion: "n" },
];

interface Trained {
  run: MemoryRun;
  summary: Awaited<ReturnType<typeof trainSft>>;
  model: string;
}

/** Trains a tiny model on the demonstrations in this order. */
async function train(config: Partial<SftConfig> = {}, records: readonly object[] = demonstrations, context = 128): Promise<Trained> {
  const folder = temporaryFolder();
  const model = writeTinyModel(join(folder, "tiny"), { family: "llama", tokenizer: true, config: { max_position_embeddings: context } });
  const settings = completeConfig(sftSettings, {
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
  return { run, summary: await trainSft(settings, run), model };
}

/** All weights of the model that a run left, by name. */
function weightsOf({ run }: Trained): Map<string, readonly number[]> {
  return new Map([...readTensors(join(run.modelFolder, "model.safetensors"))].map(([name, { data }]) => [name, data]));
}

describe("the loss", () => {
  test("of answers is the mean negative log-likelihood of all answer tokens with their ends, computed here by whole forwards", async () => {
    const { run, model: path } = await train({ learningRate: 0 });
    const [model, tokenizer] = [await CausalLM.load(path, { dtype: "float32" }), await Tokenizer.load(path)];
    let sum = 0,
      count = 0;
    for (const { prompt, completion } of demonstrations) {
      const before = await tokenizer.encodePrompt([{ role: "user", content: prompt }]);
      const answer = [...(await tokenizer.encode(completion)), tokenizer.endOfTurnTokenId];
      const [logprobs] = noGrad(() => model.logprobs([[...before, ...answer]])).toArray() as number[][];
      sum -= (logprobs ?? []).slice(before.length - 1).reduce((a, b) => a + b, 0);
      count += answer.length;
    }
    assertClose(run.series("loss"), [sum / count], { rtol: 1e-5 });
  });

  test("of all tokens is the model's own loss on them", async () => {
    const { run, model: path } = await train({ learningRate: 0, lossOn: "all" });
    const [model, tokenizer] = [await CausalLM.load(path, { dtype: "float32" }), await Tokenizer.load(path)];
    const rows = await Promise.all(
      demonstrations.map(
        async ({ prompt, completion }) =>
          (
            await tokenizer.encodeConversation([
              { role: "user", content: prompt },
              { role: "assistant", content: completion },
            ])
          ).tokens,
      ),
    );
    const { tokens, attentionMask } = tokenizer.pad(rows);
    assertClose(run.series("loss"), [noGrad(() => model.loss(tokens, { attentionMask }).item())], { rtol: 1e-5 });
  });
});

describe("the loss, the gradient's norm and the step", () => {
  // With a large epsilon the step is proportional to the gradient, so weights compare gradients: w - 1e4 g / (|g| + 1e4).
  const settings: Partial<SftConfig> = { learningRate: 1e3, adamEpsilon: 1e4, gradientClip: 1e9 };
  const same = async (config: Partial<SftConfig>, records: readonly object[]) => {
    const [whole, other] = [await train(settings), await train({ ...settings, ...config }, records)];
    assertClose(other.run.series("loss"), whole.run.series("loss"), { rtol: 1e-6 });
    assertClose(other.run.series("gradientNorm"), whole.run.series("gradientNorm"), { rtol: 3e-6 });
    for (const [name, weights] of weightsOf(other)) assertClose(weights, weightsOf(whole).get(name) ?? [], { rtol: 0, atol: 1e-6 });
  };

  test("do not depend on how the minibatch is cut into micro-batches", () => same({ microBatchTokens: 128 }, demonstrations));
  test("do not depend on the order of its samples", () => same({}, [...demonstrations].reverse()));

  test("do depend on its samples", async () => {
    const [whole, part] = [await train(settings), await train({ ...settings, miniBatchSize: 5 })];
    expect(Math.abs((whole.run.series("loss")[0] ?? 0) - (part.run.series("loss")[0] ?? 0))).toBeGreaterThan(1e-3);
  });
});

describe("the data", () => {
  const settings: Partial<SftConfig> = { miniBatchSize: 2, maxSteps: 5, learningRate: 5e-3 };

  test("train to the same bits from the cache, from the cache again and from memory", async () => {
    const dataCache = temporaryFolder();
    const weights: ReturnType<typeof weightsOf>[] = [];
    for (const setting of [dataCache, dataCache, "off"]) weights.push(weightsOf(await train({ ...settings, dataCache: setting })));
    expect(weights[1]).toEqual(weights[0]);
    expect(weights[2]).toEqual(weights[0]);
  });

  test("are drawn by weight, and grow by those of this step alone", async () => {
    const folder = temporaryFolder();
    const more = writeJsonl(join(folder, "more.jsonl"), demonstrations.slice(0, 2));
    const data = [writeJsonl(join(folder, "a.jsonl"), demonstrations), more];
    const { run, summary } = await train({ ...settings, data, dataWeights: [1, 3] });
    expect(summary.trainSamples).toBe(8);
    expect(run.notes.filter((line) => line.includes("an epoch takes")).map((line) => line.replace(/^.*: /, ""))).toEqual([
      "an epoch takes 2 from 6 (0.33 times each)", "an epoch takes 6 from 2 (3.00 times each)",
    ]);
    expect((await train({ ...settings, sftOnlyData: [more] })).summary.trainSamples).toBe(8);
  });

  test("are shortened when that is asked for", async () => {
    const records = [...demonstrations, { prompt: "word ".repeat(200), completion: "end" }];
    expect((await train(settings, records)).summary.trainSamples).toBe(6);
    const { run, summary } = await train({ ...settings, truncation: "left" }, records);
    expect(summary.trainSamples).toBe(7);
    expect(run.notes).toContain("demonstrations: 1 too long, shortened");
  });
});

describe("a step whose loss is not finite", () => {
  // After the first step the parameters are around 1e18: finite, but products of them are not.
  const settings: Partial<SftConfig> = { learningRate: 1e18, schedule: "constant", dtype: "float32" };

  test("ends the run with the block that overflows", async () => {
    const error = await rejection(() => train({ ...settings, maxSteps: 2 }));
    expect(error).toMatchObject({ name: "TrainingError", code: "E_TRAINING" });
    expect(error.message).toMatch(/^the loss became NaN at step 2: the output of block "layer 0" is the first that is not finite; /);
  });

  test("is left out and counted when such steps are skipped, until there are ten in a row", async () => {
    const { run } = await train({ ...settings, onNonFinite: "skip", maxSteps: 10 });
    expect(run.series("skippedSteps")).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(run.series("gradientNorm").map(Number.isFinite)).toEqual([true, ...new Array<boolean>(9).fill(false)]);
    const { message } = await rejection(() => train({ ...settings, onNonFinite: "skip", maxSteps: 11 }));
    expect(message).toMatch(/^10 steps in a row could not be taken; the last one: the loss became NaN at step 11: /);
  });
});

describe("a run", () => {
  const settings: Partial<SftConfig> = { miniBatchSize: 2, maxSteps: 9, learningRate: 5e-3 };

  test("lowers the perplexity, and reports it on held-out demonstrations before and after", async () => {
    const trained = await train(settings);
    const { summary, run } = trained;
    expect(summary).toMatchObject({ steps: 9, trainSamples: 6, evalSamples: 2 });
    expect(summary.perplexityAfter).toBeLessThan(summary.perplexityBefore);
    expect(run.series("evalPerplexity")).toEqual([summary.perplexityBefore, summary.perplexityAfter]);
    const losses = run.series("loss");
    expect(losses).toHaveLength(9);
    expect(losses.at(-1)).toBeLessThan(losses[0] ?? 0);
    const reloaded = await CausalLM.load(run.modelFolder, { dtype: "float32" });
    const tokenizer = await Tokenizer.load(run.modelFolder);
    const samples = await Promise.all(
      heldOut.map(async ({ prompt, completion }) => {
        const { tokens, assistantMask } = await tokenizer.encodeConversation([
          { role: "user", content: prompt },
          { role: "assistant", content: completion },
        ]);
        return { tokens, lossMask: assistantMask };
      }),
    );
    assertClose(perplexity(reloaded, samples, 4096), summary.perplexityAfter, { rtol: 1e-5 });
  });

  test("with the same seed is the same bit for bit, with another it is not", async () => {
    const [first, again, other] = [await train(settings), await train(settings), await train({ ...settings, seed: 7 })];
    const bytes = ({ run }: Trained) => readFileSync(join(run.modelFolder, "model.safetensors"));
    expect(again.run.series("loss")).toEqual(first.run.series("loss"));
    expect(bytes(again).equals(bytes(first))).toBe(true);
    expect(bytes(other).equals(bytes(first))).toBe(false);
  });

  test("saves a folder with tokenizer, template and the end of turn as the end of generation", async () => {
    const { run } = await train(settings);
    for (const file of ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
      expect(existsSync(join(run.modelFolder, file)), file).toBe(true);
    }
    expect(JSON.parse(readFileSync(join(run.modelFolder, "generation_config.json"), "utf8"))).toMatchObject({ eos_token_id: 2 });
  });
});

describe("samples longer than the model's context", () => {
  const long = { prompt: "and ".repeat(200), completion: "x" };

  test("are left out and counted, although maxSeqLen would allow them", async () => {
    const { run, summary } = await train({ maxSeqLen: 512 }, [...demonstrations, long], 96);
    expect(summary.trainSamples).toBe(6);
    expect(run.notes).toContain("maxSeqLen: 96 instead of 512: the model's context allows no more");
    expect(run.notes).toContain("demonstrations: 1 left out: longer than maxSeqLen 96");
  });

  test("are an error when there is nothing else", async () => {
    const error = await rejection(() => train({}, [long], 96));
    expect(error).toMatchObject({ name: "ConfigError", code: "E_CONFIG" });
    expect(error.message).toMatch(/^maxSeqLen 96: expected records of at most 96 tokens, found 1, the shortest of \d+ tokens; /);
  });
});
