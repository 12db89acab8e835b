import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { TrainEngine, type TrainEngineOptions } from "../../src/engine/train-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import type { LoraOptions } from "../../src/model/lora.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { type PlainTensor, readTensors } from "../model/safetensors-file.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const options: TrainEngineOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, gradientClip: 1 };
const rows = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18], [19, 20, 21]];
const totalTokens = 4 + 1 + 6 + 2; // all but first ones

interface Setting {
  lora?: Partial<LoraOptions>;
  dtype?: "float32" | "bfloat16";
  /** Of the checkpoint. */
  stored?: "float32" | "bfloat16";
  config?: Record<string, unknown>;
}

async function makeEngine({ lora = {}, dtype = "float32", stored = "float32", config = {} }: Setting = {}) {
  const path = writeTinyModel(join(temporaryFolder(), "base"), { family: "llama", dtype: stored, config });
  const model = await CausalLM.load(path, { dtype });
  model.addLora({ rank: 2, seed: 1, ...lora });
  return { engine: new TrainEngine(model, options), path };
}

function step({ engine }: { engine: TrainEngine<CausalLM> }, parts: readonly number[][][], ...rates: [number, number?]): number {
  const loss = parts.reduce((sum, part) => sum + engine.backward(engine.model.tokenLogprobs(part).logprobs.sum().div(-totalTokens)), 0);
  engine.step(...rates);
  return loss;
}

const flatsOf = ({ model }: TrainEngine) => model.blocks.map(({ flat }) => flat.numbers());
const adaptersOf = ({ model }: TrainEngine) => model.lora?.blocks.flatMap(({ flat }) => flat.numbers()) ?? [];
const weights = (folder: string) => readTensors(join(folder, "model.safetensors"));

describe("training the adapters", () => {
  test.each(["float32", "bfloat16"] as const)("leaves the model's weights as they are, bit for bit, and lowers the loss (%s)",
    async (dtype) => {
      const trained = await makeEngine({ dtype }), before = flatsOf(trained.engine);
      const losses = Array.from({ length: 12 }, () => step(trained, [rows], 2e-2));
      expect(flatsOf(trained.engine)).toEqual(before);
      expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) - 1);
    });

  test("does not depend on how the minibatch is cut", async () => {
    const [whole, cut] = [await makeEngine(), await makeEngine()];
    for (let i = 0; i < 3; i++) {
      const losses = [step(whole, [rows], 1e-2), step(cut, [rows.slice(2), [rows[1] ?? []], [rows[0] ?? []]], 1e-2)];
      assertClose(losses[1] ?? 0, losses[0] ?? 0, { rtol: 1e-5 });
    }
    assertClose(adaptersOf(cut.engine), adaptersOf(whole.engine), { rtol: 0, atol: 1e-5 });
  });

  test("moves A and B at their own rate, and what else trains at the step's", async () => {
    const trained = await makeEngine({ lora: { onlyLora: false } }), { engine } = trained;
    const [flats, adapters] = [flatsOf(engine), adaptersOf(engine)];
    step(trained, [rows], 0, 1e-2);
    expect(flatsOf(engine)).toEqual(flats);
    const moved = adaptersOf(engine).map((value, i) => Math.abs(value - (adapters[i] ?? 0)));
    assertClose(Math.max(...moved), 1e-2, { rtol: 1e-3 }); // Adam's first step is the rate
    step(trained, [rows], 1e-3, 0);
    const largest = (now: number[], before: number[] = []) =>
      now.reduce((max, value, i) => Math.max(max, Math.abs(value - (before[i] ?? 0))), 0);
    for (const [i, flat] of flatsOf(engine).entries()) expect(largest(flat, flats[i])).toBeGreaterThan(1e-4);
  });

  test("of layers without adapters moves nothing there", async () => {
    const trained = await makeEngine({ lora: { targets: "layers.1.*", onlyLora: false } }), matrices = () =>
      trained.engine.model.decoder.layers.map(({ flat, decayEnd }) => flat.slice(0, 0, decayEnd).numbers());
    const before = matrices();
    step(trained, [rows], 1e-2);
    expect(matrices()).toEqual(before);
  });
});

test("generation samples with the trained adapters at once, and agrees with training", async () => {
  const trained = await makeEngine({ dtype: "bfloat16" }), { model } = trained.engine, generator = new HybridEngine(model);
  const answer = () => generator.generate(rows, { maxNewTokens: 6, temperature: 1, seed: 3, eosTokenId: null });
  const before = answer();
  for (let i = 0; i < 4; i++) step(trained, [rows], 2e-2);
  const after = answer();
  expect(after.responses).not.toEqual(before.responses);
  const counts = after.sequences.map((sequence, i) => sequence.map((_, t) => t >= (rows[i]?.length ?? 0)));
  expect(after.logprobs.flat()).toEqual(noGrad(() => model.tokenLogprobs(after.sequences, { counts }).logprobs.numbers()));
});

describe("a saved folder", () => {
  test.each([["float32", "float32"], ["bfloat16", "bfloat16"]] as const)(
    "in %s gives what the engine gives, itself and as base with adapter", async (dtype, stored) => {
      const trained = await makeEngine({ dtype, stored }), folder = temporaryFolder();
      for (let i = 0; i < 3; i++) step(trained, [rows], 2e-2);
      await trained.engine.save(folder);
      const logprobs = (model: CausalLM) => noGrad(() => model.tokenLogprobs(rows).logprobs.numbers());
      const expected = logprobs(trained.engine.model);
      expect(logprobs(await CausalLM.load(folder, { dtype }))).toEqual(expected);
      expect(logprobs(await CausalLM.load(trained.path, { dtype, adapter: join(folder, "adapter") }))).toEqual(expected);
    },
  );

  test("keeps the checkpoint's precision where the model ran in less: what did not train is written bit for bit", async () => {
    const trained = await makeEngine({ dtype: "bfloat16", stored: "float32", lora: { targets: "v_proj" } }), folder = temporaryFolder();
    step(trained, [rows], 1e-2);
    await trained.engine.save(folder);
    const [before, after] = [weights(trained.path), weights(folder)];
    for (const [name, tensor] of before) {
      const same = JSON.stringify(after.get(name)) === JSON.stringify(tensor);
      expect(same, name).toBe(!name.includes("v_proj"));
    }
    // What did train is base + scale B A, without a rounding to bfloat16 (2^-9 of the weights) in between.
    const adapter = readTensors(join(folder, "adapter", "adapter_model.safetensors")), name = "model.layers.0.self_attn.v_proj";
    const at = (tensors: ReadonlyMap<string, PlainTensor>, key: string) => tensors.get(key)?.data ?? [];
    const [a, b] = [at(adapter, `base_model.model.${name}.lora_A.weight`), at(adapter, `base_model.model.${name}.lora_B.weight`)];
    const width = a.length / 2, scale = 16 / 2;
    const expected = at(before, `${name}.weight`).map((value, i) => {
      const [row, column] = [Math.floor(i / width), i % width];
      return value + scale * [0, 1].reduce((sum, k) => sum + (b[2 * row + k] ?? 0) * (a[k * width + column] ?? 0), 0);
    });
    assertClose(at(after, `${name}.weight`), expected, { rtol: 0, atol: 1e-6 });
  });

  test("has the trained vectors in the master's precision, beside frozen matrices", async () => {
    const trained = await makeEngine({ dtype: "bfloat16", stored: "float32", lora: { onlyLora: false, targets: "q_proj" } });
    const folder = temporaryFolder();
    step(trained, [rows], 1e-4); // less than half a step of bfloat16 beside 1
    await trained.engine.save(folder);
    const [before, after] = [weights(trained.path), weights(folder)], norm = "model.layers.1.input_layernorm.weight";
    const moved = (name: string) => (after.get(name)?.data ?? []).map((value, i) => Math.abs(value - (before.get(name)?.data[i] ?? 0)));
    assertClose(Math.max(...moved(norm)), 1e-4, { rtol: 1e-2 });
    expect(Math.max(...moved("model.layers.1.mlp.up_proj.weight"))).toBe(0);
    expect(Math.max(...moved("model.embed_tokens.weight"))).toBeGreaterThan(5e-5);
  });
});
