import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { packRows } from "../../src/model/packing.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { readTensors } from "./safetensors-file.ts";
import { type TinyModelOptions, writeTinyModel } from "./tiny-model.ts";

const rows = [
  [5, 6, 7, 8, 9, 10],
  [11, 12],
  [13, 14, 15, 16],
];
const fresh = (options: TinyModelOptions, seed = 1) =>
  RewardModel.withNewHead(writeTinyModel(temporaryFolder(), options), { dtype: "float32", head: { seed } });
const configIn = (folder: string) => JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;

describe.each<[string, TinyModelOptions]>([
  ["llama", { family: "llama" }],
  ["opt with narrow embeddings", { family: "opt", config: { word_embed_proj_dim: 16 } }],
])("a new reward model on %s", (_name, options) => {
  test("scores every position by the head's product with the language model's hidden state, a row at its last", async () => {
    const model = await fresh(options);
    const language = await CausalLM.load(writeTinyModel(temporaryFolder(), options), { dtype: "float32" });
    const hidden = noGrad(() => language.hidden(packRows(rows))).toArray() as number[][];
    const weight = model.score.leaf("weight").numbers();
    const expected = hidden.map((state) => state.reduce((sum, x, i) => sum + x * (weight[i] ?? Number.NaN), 0));
    assertClose(
      noGrad(() => model.values(rows)),
      expected,
      { rtol: 1e-4, atol: 1e-5 },
    );
    const ends = [5, 7, 11].map((end) => expected[end] ?? Number.NaN); // rows of 6, 2 and 4 tokens
    assertClose(
      noGrad(() => model.scoreRows(rows)),
      ends,
      { rtol: 1e-4, atol: 1e-5 },
    );
    const padded = {
      tokens: rows.map((row) => [...row, 0, 0, 0, 0].slice(0, 6)),
      attentionMask: rows.map((row) => [...row.map(() => 1), 0, 0, 0, 0].slice(0, 6)),
    };
    assertClose(
      noGrad(() => model.scores(padded.tokens, padded)),
      ends,
      { rtol: 1e-4, atol: 1e-5 },
    );
    const left = {
      tokens: rows.map((row) => [0, 0, 0, 0, ...row].slice(-6)),
      attentionMask: rows.map((row) => [0, 0, 0, 0, ...row.map(() => 1)].slice(-6)),
    };
    assertClose(
      noGrad(() => model.scores(left.tokens, left)),
      ends,
      { rtol: 1e-4, atol: 1e-5 },
    );
  });

  test("is saved and loaded with equal scores, as transformers names it", async () => {
    const model = await fresh(options);
    const folder = temporaryFolder();
    await model.save(folder, { padTokenId: 3 });
    const loaded = await RewardModel.load(folder, { dtype: "float32" });
    expect(noGrad(() => loaded.scoreRows(rows)).toArray()).toEqual(noGrad(() => model.scoreRows(rows)).toArray());
    expect(configIn(folder)).toMatchObject({
      architectures: [options.family === "llama" ? "LlamaForSequenceClassification" : "OPTForSequenceClassification"],
      num_labels: 1,
      id2label: { 0: "LABEL_0" },
      pad_token_id: 3,
      tschat: { scoreScale: { mean: 0, std: 1 } },
    });
    const { shape } = readTensors(join(folder, "model.safetensors")).get("score.weight") ?? { shape: [] };
    expect(shape).toEqual([1, options.family === "llama" ? 32 : 16]);
    expect(readTensors(join(folder, "model.safetensors")).has("lm_head.weight")).toBe(false);
  });
});

test("a new head is drawn from its seed with standard deviation 1 / sqrt(hidden + 1)", async () => {
  const options: TinyModelOptions = {
    family: "llama",
    config: { hidden_size: 512, num_attention_heads: 4, intermediate_size: 8, num_hidden_layers: 1 },
  };
  const head = async (seed: number) => (await fresh(options, seed)).score.leaf("weight").numbers();
  const weights = await head(1);
  expect(await head(1)).toEqual(weights);
  expect(await head(2)).not.toEqual(weights);
  // 512 draws: the sample's mean square is 1 / 513 within 4 sqrt(2 / 512) = 25%.
  const meanSquare = weights.reduce((sum, x) => sum + x * x, 0) / weights.length;
  expect(Math.abs(meanSquare * 513 - 1)).toBeLessThan(0.25);
});

test("the scale applies to scores and values, is saved, and is refused where it makes no sense", async () => {
  const model = await fresh({ family: "llama" });
  const [scores, values] = noGrad(() => [model.scoreRows(rows).numbers(), model.values(rows).numbers()]);
  model.scale = { mean: 0.5, std: 4 };
  const scaled = (xs: readonly number[] = []) => xs.map((x) => (x - 0.5) / 4);
  assertClose(
    noGrad(() => model.scoreRows(rows)),
    scaled(scores),
    { atol: 1e-6 },
  );
  assertClose(
    noGrad(() => model.values(rows)),
    scaled(values),
    { atol: 1e-6 },
  );
  const folder = temporaryFolder();
  await model.save(folder);
  const loaded = await RewardModel.load(folder, { dtype: "float32" });
  expect(loaded.scale).toEqual({ mean: 0.5, std: 4 });
  assertClose(
    noGrad(() => loaded.scoreRows(rows)),
    scaled(scores),
    { atol: 1e-6 },
  );
  for (const scoreScale of [{ mean: 0, std: 0 }, { mean: "0", std: 1 }, { std: 1 }]) {
    writeFileSync(join(folder, "config.json"), JSON.stringify({ ...configIn(folder), tschat: { scoreScale } }));
    await expect(RewardModel.load(folder)).rejects.toMatchObject({
      name: "CheckpointError",
      code: "E_CHECKPOINT",
      message: expect.stringMatching(/"tschat\.scoreScale" is .*, expected a mean and a std above 0$/),
    });
  }
});

test("gradients of scores reach the head and the decoder", async () => {
  const model = await fresh({ family: "opt" });
  model.enableGradients();
  model.scoreRows(rows).sum().backward();
  const gradients = model.gradients();
  expect(gradients.size).toBe(model.entries.length);
  // d(sum of scores) / d(head) is the sum of the last hidden states: score = head . state
  const headGradient = gradients.get("score.weight")?.numbers() ?? [];
  const weight = model.score.leaf("weight").numbers();
  const total = noGrad(() => model.scoreRows(rows).sum().item());
  assertClose(
    headGradient.reduce((sum, g, i) => sum + g * (weight[i] ?? Number.NaN), 0),
    total,
    { rtol: 1e-4 },
  );
  expect(gradients.get("model.decoder.layers.0.fc1.weight")?.abs().max().item()).toBeGreaterThan(1e-4);
});

test("a reward model can be started anew from another one: its head is drawn again, also in the optimizer's master", async () => {
  const folder = temporaryFolder();
  const first = await fresh({ family: "llama" }, 1);
  await first.save(folder);
  const second = await RewardModel.withNewHead(folder, { dtype: "bfloat16", head: { seed: 2 } });
  const drawn = second.score.leaf("weight").numbers();
  expect(drawn).not.toEqual(first.score.leaf("weight").to("bfloat16").numbers());
  expect(second.masterOf(second.score).slice(0, 0, drawn.length).numbers()).toEqual(drawn);
});

test("rows that do not fit are refused", async () => {
  const model = await fresh({ family: "llama", config: { max_position_embeddings: 8 } });
  expect(() => model.scoreRows([new Array<number>(9).fill(5)])).toThrow(
    expect.objectContaining({ name: "RangeError", message: "row 0 has 9 tokens, the model's context is 8" }),
  );
  expect(() => model.values([[5, 96]])).toThrow(
    expect.objectContaining({ name: "RangeError", message: expect.stringMatching(/^row 0 has token 96, /) }),
  );
});
