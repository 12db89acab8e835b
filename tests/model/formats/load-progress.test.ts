import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CausalLM } from "../../../src/model/causal-lm.ts";
import { observeLoading } from "../../../src/model/formats/load-progress.ts";
import { RewardModel } from "../../../src/model/reward-model.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { writeTinyModel } from "../tiny-model.ts";

type Call = [path: string, done: number, total: number];

async function callsWhile(action: () => Promise<unknown>): Promise<Call[]> {
  const calls: Call[] = [];
  await observeLoading((...call) => calls.push(call), action);
  return calls;
}

test("loading reports the bytes before each tensor, and all of them at the end", async () => {
  const folder = writeTinyModel(temporaryFolder(), { family: "llama", config: { num_hidden_layers: 1 } });
  const calls = await callsWhile(() => CausalLM.load(folder, { dtype: "float32" }));
  // 12 tensors: table, 9 of the layer, norm, head. The table is 96 x 32 float32.
  expect(calls).toHaveLength(13);
  expect(calls[0]).toEqual([folder, 0, calls[0]?.[2]]);
  expect(calls[1]?.[1]).toBe(96 * 32 * 4);
  // Table and head 2 * 96 * 32; q, o 2 * 32 * 32; k, v 2 * 16 * 32; MLP 3 * 48 * 32; norms 3 * 32.
  const total = 4 * (2 * 96 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32 + 3 * 32);
  expect(calls.every(([, , bytes]) => bytes === total)).toBe(true);
  expect(total).toBeLessThan(statSync(join(folder, "model.safetensors")).size);
  const done = calls.map(([, bytes]) => bytes);
  expect(done).toEqual([...done].sort((a, b) => a - b));
  expect(done.at(-1)).toBe(total);
});

test("it is at its end before the model is there, also where a tensor is not taken, and masters report nothing", async () => {
  const folder = writeTinyModel(temporaryFolder(), { family: "llama" });
  const calls = await callsWhile(async () => {
    const model = await RewardModel.withNewHead(folder, { dtype: "bfloat16", head: "zero" }); // leaves lm_head
    for (const block of model.blocks) model.masterOf(block);
  });
  const ends = calls.filter(([, done, total]) => done === total);
  expect(ends).toHaveLength(1);
  expect(calls.at(-1)).toEqual(ends[0]);
});

test("without an observer nothing is reported, and observers do not see each other's models", async () => {
  const [first, second] = [0, 1].map((seed) => writeTinyModel(temporaryFolder(), { family: "opt", seed })) as [string, string];
  const [a, b] = await Promise.all([callsWhile(() => CausalLM.load(first)), callsWhile(() => CausalLM.load(second))]);
  await CausalLM.load(first);
  expect(new Set(a.map(([path]) => path))).toEqual(new Set([first]));
  expect(new Set(b.map(([path]) => path))).toEqual(new Set([second]));
});
