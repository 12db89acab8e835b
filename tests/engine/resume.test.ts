import { join } from "node:path";
import { expect, test } from "vitest";
import { TrainEngine, type TrainEngineOptions } from "../../src/engine/train-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { failure } from "../failure.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const options: TrainEngineOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.01, gradientClip: 1 };
const batches = [[[5, 6, 7, 8, 9], [10, 11]], [[12, 13, 14, 15], [19, 20, 21]], [[3, 4, 5], [30, 31, 32, 33]], [[40, 41, 42]]];

interface Setting {
  dtype: "float32" | "bfloat16";
  rank?: number;
  options?: Partial<TrainEngineOptions>;
}

async function engineOf(path: string, { dtype, rank, options: changes }: Setting): Promise<TrainEngine<CausalLM>> {
  const model = await CausalLM.load(path, { dtype });
  if (rank !== undefined) model.addLora({ rank, seed: 5, onlyLora: false });
  return new TrainEngine(model, { ...options, ...changes });
}
function train(engine: TrainEngine<CausalLM>, from: number, to: number): void {
  for (const batch of batches.slice(from, to)) {
    engine.backward(engine.model.tokenLogprobs(batch).logprobs.mean().neg());
    engine.step(1e-2);
  }
}
const bytesOf = ({ model }: TrainEngine) => [...model.blocks, ...(model.lora?.blocks ?? [])].map(({ flat }) => Buffer.from(flat.bytes()));

test.each<[string, Setting]>([
  ["float32", { dtype: "float32" }],
  ["bfloat16", { dtype: "bfloat16" }],
  ["bfloat16 with gradient checkpointing", { dtype: "bfloat16", options: { gradientCheckpointing: true } }],
  ["float32 with gradients that are released", { dtype: "float32", options: { releasesGradients: true } }],
  ["bfloat16 with adapters, norms and embeddings", { dtype: "bfloat16", rank: 2 }],
])("%s: steps from a saved state are those of an uninterrupted training, bit for bit", async (_name, setting) => {
  const path = writeTinyModel(temporaryFolder(), { family: "llama" }), file = join(temporaryFolder(), "state.safetensors");
  const whole = await engineOf(path, setting), first = await engineOf(path, setting), second = await engineOf(path, setting);
  train(whole, 0, 4);
  train(first, 0, 2);
  first.saveState(file);
  train(second, 2, 3); // what it had before is gone
  second.loadState(file);
  expect(second.numSteps).toBe(2);
  expect(bytesOf(second)).toEqual(bytesOf(first));
  train(second, 2, 4);
  expect(bytesOf(second)).toEqual(bytesOf(whole));
  expect(bytesOf(second)).not.toEqual(bytesOf(first));
});

test("the state of another model is refused, and of one without its adapters", async () => {
  const file = join(temporaryFolder(), "state.safetensors"), llama = writeTinyModel(temporaryFolder(), { family: "llama" });
  const opt = await engineOf(writeTinyModel(temporaryFolder(), { family: "opt" }), { dtype: "float32" });
  opt.saveState(file);
  for (const setting of [{ dtype: "float32" }, { dtype: "float32", rank: 2 }] as const) {
    const engine = await engineOf(llama, setting), before = bytesOf(engine);
    expect(failure(() => engine.loadState(file))).toMatchObject({ name: "CheckpointError", code: "E_CHECKPOINT" });
    expect(bytesOf(engine)).toEqual(before);
  }
});
