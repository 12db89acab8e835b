import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { readPeftAdapter } from "../../src/model/peft.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { fromNumbers, indices } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { failure, rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { type PlainTensor, readTensors, writeTensors } from "./safetensors-file.ts";

const fixture = (name: string) => fileURLToPath(new URL(join("../fixtures", name), import.meta.url));
const adapters: [string, string][] = [["llama-some", "tiny-llama"], ["llama-patterns", "tiny-llama"], ["opt-all", "tiny-opt"],
  ["gpt2-all", "tiny-gpt2"], ["gpt-neox-all", "tiny-gpt-neox"]];

describe.each(adapters)("the adapter %s that PEFT made", (name, base) => {
  const adapter = fixture(`adapters/${name}`), path = fixture(`goldens/${base}`);
  const golden = readTensors(join(adapter, "golden.safetensors"));
  const entry = (key: string) => golden.get(key) as PlainTensor;
  const [batch = 0, seq = 0] = entry("input_ids").shape;
  const ids = Array.from({ length: batch }, (_, i) => entry("input_ids").data.slice(i * seq, (i + 1) * seq));

  test("gives PEFT's logits", async () => {
    const model = await CausalLM.load(path, { dtype: "float32", adapter });
    const logits = noGrad(() => model.forward(ids));
    assertClose(logits.numbers(), entry("logits").data, { rtol: 1e-4, atol: 3e-5 });
    const plain = await CausalLM.load(path, { dtype: "float32" });
    expect(noGrad(() => plain.forward(ids)).sub(logits).abs().max().item()).toBeGreaterThan(0.05);
  });

  if (name !== "llama-patterns") test("has PEFT's loss and gradients in training", async () => {
    const { r: rank, lora_alpha: alpha } = JSON.parse(readFileSync(join(adapter, "adapter_config.json"), "utf8"));
    const model = await CausalLM.load(path, { dtype: "float32" });
    const targets = [...readPeftAdapter(adapter).factors.keys()].join(",");
    const lora = model.addLora({ rank, alpha, targets });
    const stored = readTensors(join(adapter, "adapter_model.safetensors"));
    noGrad(() => {
      for (const layer of lora.layers) for (const { module, order } of layer.linears) {
        const { a, b } = layer.factorsOf(module);
        const read = (factor: "A" | "B", shape: readonly number[]) =>
          fromNumbers(stored.get(`base_model.model.${module}.lora_${factor}.weight`)?.data ?? [], shape, "float32");
        a.copy_(read("A", a.shape));
        const rows = read("B", b.shape);
        b.copy_(order ? rows.indexSelect(0, indices(order)) : rows);
      }
    });
    lora.merge();
    const loss = model.loss(ids);
    assertClose(loss.item(), entry("loss").data[0] ?? Number.NaN, { rtol: 1e-6 });
    loss.backward();
    const gradients = model.gradients();
    const expected = [...golden.keys()].filter((key) => key.startsWith("gradient."));
    expect([...gradients.keys()].map((key) => `gradient.${key}`).sort()).toEqual(expected.sort());
    for (const [key, gradient] of gradients) {
      const { data, shape } = entry(`gradient.${key}`), largest = Math.max(...data.map(Math.abs));
      expect(gradient.shape).toEqual(shape);
      assertClose(gradient.numbers(), data, { rtol: 1e-4, atol: 1e-4 * largest + 1e-7 });
    }
  });
});

const zeros = (...shape: number[]): PlainTensor => ({ shape, data: new Array<number>(shape.reduce((a, b) => a * b)).fill(0) });

/** A copy of an adapter of PEFT with other settings, or with its tensors changed. */
function changed(settings: object, change?: (tensors: Map<string, PlainTensor>) => void, name = "llama-some"): string {
  const folder = temporaryFolder();
  cpSync(fixture(`adapters/${name}`), folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify({ ...config, ...settings }));
  if (change) {
    const tensors: Map<string, PlainTensor> = readTensors(join(folder, "adapter_model.safetensors"));
    change(tensors);
    writeTensors(join(folder, "adapter_model.safetensors"), tensors);
  }
  return folder;
}

describe("an adapter that tschat does not compute is refused by name:", () => {
  test.each<[object, string]>([
    [{ peft_type: "LOHA" }, '"peft_type" is "LOHA", which tschat does not support; expected "LORA"'],
    [{ bias: "lora_only" }, '"bias" is "lora_only", which tschat does not support; expected "none"'],
    [{ use_dora: true }, '"use_dora" is true, which tschat does not support; expected it to be off'],
    [{ layer_replication: [[0, 2]] }, '"layer_replication" is [[0,2]], which tschat does not support; expected it to be off'],
    [{ init_lora_weights: "pissa" },
      '"init_lora_weights" is "pissa", which tschat does not support; expected a start that keeps the base model'],
  ])("%j", (settings, message) => {
    const folder = changed(settings);
    expect(failure(() => readPeftAdapter(folder))).toEqual({
      name: "CheckpointError", code: "E_CHECKPOINT", message: `${join(folder, "adapter_config.json")}: ${message}`,
    });
  });

  const factor = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
  const magnitude = factor.replace("lora_A.weight", "lora_magnitude_vector");
  test.each<[string, (tensors: Map<string, PlainTensor>) => void, RegExp]>([
    ["DoRA's vectors", (tensors) => void tensors.set(magnitude, { shape: [1], data: [1] }),
      /lora_magnitude_vector" is no tensor of a LoRA adapter on linears/],
    ["a factor without the other", (tensors) => void tensors.delete(factor), /stands without its other factor; the file is incomplete$/],
    ["factors that do not fit", (tensors) => void tensors.set(factor, zeros(2, 64)),
      /the factors of model\.layers\.0\.self_attn\.q_proj do not fit together: A is \[2,64\], B \[64,4\]$/],
  ])("%s", (_, change, message) => {
    const folder = changed({}, change);
    expect(() => readPeftAdapter(folder)).toThrow(message);
  });

  test("another rank than the settings say", () => {
    const folder = changed({ r: 8 });
    expect(() => readPeftAdapter(folder)).toThrow("gives model.layers.0.mlp.down_proj the rank 8, its factors have 4");
  });
});

describe("an adapter that does not belong to the model is refused:", () => {
  test.each([
    ["opt-all", "which is no linear in"], ["llama-some", "adapts model.layers.0.self_attn.v_proj [32, 32], which is [32, 64] in"],
  ])("%s", async (name, message) => {
    const adapter = changed({}, undefined, name);
    if (name === "llama-some") {
      const factor = "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight";
      const tensors: Map<string, PlainTensor> = readTensors(join(adapter, "adapter_model.safetensors"));
      tensors.set(factor, zeros(4, 32));
      writeTensors(join(adapter, "adapter_model.safetensors"), tensors);
    }
    const error = await rejection(() => CausalLM.load(fixture("goldens/tiny-llama"), { dtype: "float32", adapter }));
    expect(error).toMatchObject({ name: "CheckpointError", code: "E_CHECKPOINT" });
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/: it belongs to another model$/);
  });

  test("a whole tensor beside a language model's adapters", async () => {
    const adapter = changed({}, (tensors) => void tensors.set("base_model.model.lm_head.weight", zeros(512, 64)));
    expect(await rejection(() => CausalLM.load(fixture("goldens/tiny-llama"), { dtype: "float32", adapter }))).toMatchObject({
      name: "CheckpointError",
      message: `${adapter}: brings a whole "lm_head.weight" (modules_to_save), which tschat reads only for the head of a reward model`,
    });
  });
});

test.each([
  ["adapter_config.json", "has no adapter_config.json; give the folder of a LoRA adapter in PEFT's format"],
  ["adapter_model.safetensors", "has neither adapter_model.safetensors nor adapter_model.bin; a LoRA adapter has one of them"],
])("a folder without %s is an error that says so", (file, message) => {
  const folder = changed({});
  rmSync(join(folder, file));
  rmSync(join(folder, "adapter_model.bin"));
  const expected = { name: "CheckpointError", code: "E_CHECKPOINT", message: `${folder}: ${message}` };
  expect(failure(() => readPeftAdapter(folder))).toEqual(expected);
  copyFileSync(fixture("adapters/llama-some/golden.safetensors"), join(folder, file)); // no JSON, and other tensors
  expect(() => readPeftAdapter(folder)).toThrow(file.endsWith("json") ? "cannot be read as JSON" : "is no tensor of a LoRA adapter");
});

test("an old adapter's pickled file has the same tensors, and counts only without safetensors", () => {
  const both = readPeftAdapter(fixture("adapters/llama-some")), folder = changed({});
  rmSync(join(folder, "adapter_model.safetensors"));
  const pickled = readPeftAdapter(folder);
  expect([...pickled.factors.keys()].sort()).toEqual([...both.factors.keys()].sort());
  for (const [module, { a, b }] of both.factors) {
    expect(pickled.factors.get(module)?.a.numbers()).toEqual(a.numbers());
    expect(pickled.factors.get(module)?.b.numbers()).toEqual(b.numbers());
  }
});

test("a reward model's adapter brings its head, and makes the reward model of the language model again", async () => {
  const base = fixture("goldens/tiny-llama"), folder = temporaryFolder(), rows = [[5, 6, 7], [8, 9, 10, 11]];
  const model = await RewardModel.withNewHead(base, { dtype: "float32", head: { seed: 1 } }), lora = model.addLora({ rank: 2 });
  noGrad(() => lora.blocks.forEach(({ flat }) => void flat.fill_(0.05)));
  lora.merge();
  model.saveAdapter(folder);
  const config = JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"));
  expect(config).toMatchObject({ task_type: "SEQ_CLS", modules_to_save: ["score"] });
  const loaded = await RewardModel.load(base, { dtype: "float32", adapter: folder });
  assertClose(noGrad(() => loaded.scoreRows(rows)), noGrad(() => model.scoreRows(rows)), { rtol: 1e-5, atol: 1e-6 });
});
