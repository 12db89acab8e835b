import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { merge } from "../../src/cli/merge-model.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const fixture = (name: string) => fileURLToPath(new URL(join("../fixtures", name), import.meta.url));
const model = fixture("goldens/tiny-llama"), adapter = fixture("adapters/llama-some");
const rows = [[5, 6, 7, 8], [9, 10, 11, 12]];

test("a merged model is the model with its adapter, in the model's own precision", async () => {
  const output = join(temporaryFolder(), "merged");
  expect(await merge({ model, adapter, output, dtype: "auto" })).toBe(`The merged model is in ${output}`);
  const [whole, both] = [await CausalLM.load(output, { dtype: "float32" }), await CausalLM.load(model, { dtype: "float32", adapter })];
  expect(noGrad(() => whole.forward(rows)).numbers()).toEqual(noGrad(() => both.forward(rows)).numbers());
  const tensors = readTensors(join(output, "model.safetensors"));
  expect(tensors.get("lm_head.weight")).toEqual(readTensors(join(model, "model.safetensors")).get("lm_head.weight"));
});

test("in another format it is rounded", async () => {
  const output = join(temporaryFolder(), "merged");
  await merge({ model, adapter, output, dtype: "bfloat16" });
  expect([...readTensors(join(output, "model.safetensors")).values()].map(({ dtype }) => dtype)).toEqual(new Array(21).fill("BF16"));
});

test("a reward model's adapter makes a reward model", async () => {
  const folder = temporaryFolder(), base = writeTinyModel(join(folder, "base"), { family: "llama", tokenizer: true });
  const trained = await RewardModel.withNewHead(base, { dtype: "float32", head: { seed: 1 } });
  trained.addLora({ rank: 2 });
  trained.saveAdapter(join(folder, "adapter"));
  await merge({ model: base, adapter: join(folder, "adapter"), output: join(folder, "merged"), dtype: "auto" });
  const merged = await RewardModel.load(join(folder, "merged"), { dtype: "float32" });
  assertClose(noGrad(() => merged.scoreRows(rows)), noGrad(() => trained.scoreRows(rows)), { rtol: 1e-5, atol: 1e-6 });
});

test("a folder that exists is left alone", async () => {
  const output = join(temporaryFolder(), "merged");
  mkdirSync(output);
  expect(await rejection(() => merge({ model, adapter, output, dtype: "auto" }))).toEqual({
    name: "ConfigError", code: "E_CONFIG", message: `--output: ${output} exists; choose another folder`,
  });
});
