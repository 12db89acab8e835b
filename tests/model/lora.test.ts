import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { checkpointingRunner } from "../../src/model/layer-runner.ts";
import type { Lora, LoraOptions } from "../../src/model/lora.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { linear } from "../../src/nn/functional.ts";
import { layerProduct, type LayerProduct } from "../../src/nn/layer-product.ts";
import { droppedProduct } from "../../src/nn/lora-dropout.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Generator, randn } from "../../src/tensor/create.ts";
import { packRows } from "../../src/model/packing.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { readTensors } from "./safetensors-file.ts";
import { writeTinyModel } from "./tiny-model.ts";

const golden = (name: string) => fileURLToPath(new URL(join("../fixtures/goldens", name), import.meta.url));
const rows = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14, 3, 4, 5, 6], [15, 16, 17, 18, 19, 20, 40]];

/** A model with adapters whose B is not 0. */
async function adapted(path: string, options: Partial<LoraOptions> = {}, dtype: "float32" | "bfloat16" = "float32") {
  const model = await CausalLM.load(path, { dtype }), lora = model.addLora({ rank: 2, alpha: 6, seed: 3, ...options });
  disturb(lora);
  return { model, lora };
}

function disturb(lora: Lora): void {
  noGrad(() => {
    for (const [i, { flat }] of lora.blocks.entries()) flat.copy_(randn(flat.shape, new Generator(i + 1)).mul(0.2));
  });
  lora.merge();
}

const modulesOf = ({ linears }: Lora) => linears.map(({ module }) => module);

describe("targets", () => {
  const llama = golden("tiny-llama"), opt = golden("tiny-opt");
  test.each([
    ["all-linear", llama, 14], // 7 in each of 2 layers
    ["all-linear", opt, 12], // 6
    ["q_proj", llama, 2], ["q_proj, v_proj", llama, 4], ["self_attn.*", llama, 8], ["*", llama, 14], ["layers.1.*", llama, 7],
    ["model.layers.0.mlp.down_proj", llama, 1], ["*_proj", opt, 8], ["fc?", opt, -1], ["fc*", opt, 4],
  ])("%s", async (targets, path, count) => {
    const model = await CausalLM.load(path, { dtype: "float32" }), add = () => model.addLora({ rank: 2, targets });
    if (count === -1) expect(add).toThrow('LoRA targets: "fc?" matches no linear');
    else expect(add().linears).toHaveLength(count);
  });

  test("match whole names from a dot on, not parts of words", async () => {
    const { lora } = await adapted(llama, { targets: "layers.1.self_attn.k_proj" });
    expect(modulesOf(lora)).toEqual(["model.layers.1.self_attn.k_proj"]);
    const model = await CausalLM.load(llama, { dtype: "float32" });
    expect(failure(() => model.addLora({ rank: 2, targets: "q_proj,proj" }))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: 'LoRA targets: "proj" matches no linear of the model\'s layers; there are q_proj, k_proj, v_proj, o_proj, gate_proj, ' +
        "up_proj, down_proj, and all-linear for all",
    });
  });
});

test.each<[LoraOptions, string]>([
  [{ rank: 0 }, "LoRA rank: expected a whole number in [1, 32], the smaller side of model.layers.0.self_attn.k_proj [32, 64], got 0"],
  [{ rank: 33 }, "LoRA rank: expected a whole number in [1, 32], the smaller side of model.layers.0.self_attn.k_proj [32, 64], got 33"],
  [{ rank: 1.5, targets: "q_proj" },
    "LoRA rank: expected a whole number in [1, 64], the smaller side of model.layers.0.self_attn.q_proj [64, 64], got 1.5"],
  [{ rank: 2, alpha: 0 }, "LoRA alpha: expected a number above 0, got 0"],
  [{ rank: 2, dropout: 1 }, "LoRA dropout: expected a number in [0, 1), got 1"],
])("%j is refused", async (options, message) => {
  const model = await CausalLM.load(golden("tiny-llama"), { dtype: "float32" });
  expect(failure(() => model.addLora(options))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
});

describe("adapters that have learned nothing", () => {
  test.each(["float32", "bfloat16"] as const)("leave every logit as it is, bit for bit, in %s", async (dtype) => {
    const [plain, model] = [await CausalLM.load(golden("tiny-llama"), { dtype }), await CausalLM.load(golden("tiny-llama"), { dtype })];
    model.addLora({ rank: 4 }).merge();
    expect(noGrad(() => model.forward(rows)).numbers()).toEqual(noGrad(() => plain.forward(rows)).numbers());
  });

  test("start as PEFT's: A uniform within 1 / sqrt(width), B 0, the same for the same seed", async () => {
    const factors = async (seed: number) => {
      const model = await CausalLM.load(golden("tiny-llama"), { dtype: "float32" }), lora = model.addLora({ rank: 8, seed });
      return lora.layers.map((layer) => layer.factorsOf(layer.linears.at(-1)?.module ?? "")); // down_proj, of width 160
    };
    const [first, again, other] = [await factors(1), await factors(1), await factors(2)];
    const a = first[0]?.a.numbers() ?? [], bound = 160 ** -0.5;
    expect(Math.max(...a.map(Math.abs))).toBeLessThanOrEqual(bound);
    // The deviation of a uniform number within +-bound is bound / sqrt(3); 1280 of them are within 10%.
    assertClose(Math.sqrt(a.reduce((sum, x) => sum + x * x, 0) / a.length), bound / Math.sqrt(3), { rtol: 0.1 });
    expect(first[0]?.b.abs().max().item()).toBe(0);
    expect(again.map(({ a: factor }) => factor.numbers())).toEqual(first.map(({ a: factor }) => factor.numbers()));
    expect(other[0]?.a.numbers()).not.toEqual(a);
    expect(first[1]?.a.numbers()).not.toEqual(a); // nor do layers share it
  });
});

/** y = W x + scale B (A x), never merged; everything around it as the model has it. */
const unfused: LayerProduct = (x, block, matrix, extras) => droppedProduct(0, () => 0)(x, block, matrix, extras);

describe.each([
  ["llama", golden("tiny-llama"), "all-linear"], ["llama, tied", golden("tiny-llama-tied"), "q_proj,up_proj"],
  ["opt", golden("tiny-opt"), "all-linear"], ["opt, post-norm", golden("tiny-opt-postnorm"), "k_proj,fc1"],
  ["llama with biases", golden("tiny-llama3-biases"), "v_proj,gate_proj,down_proj"],
])("fused equals unfused: %s", (_, path, targets) => {
  test("logits", async () => {
    const { model } = await adapted(path, { targets }), plain = await CausalLM.load(path, { dtype: "float32" });
    const logits = (product: LayerProduct) => noGrad(() => model.logits(model.hidden(packRows(rows), { product })));
    assertClose(logits(layerProduct), logits(unfused), { rtol: 1e-5, atol: 1e-5 });
    expect(logits(layerProduct).sub(noGrad(() => plain.logits(plain.hidden(packRows(rows))))).abs().max().item()).toBeGreaterThan(0.1);
  });

  test("gradients of every A and B, and none of anything else", async () => {
    const { model, lora } = await adapted(path, { targets });
    model.enableGradients();
    const [fused, expected] = [layerProduct, unfused].map((product) => {
      model.zeroGradients();
      const hidden = model.hidden(packRows(rows), { product });
      linear(hidden, model.headWeight).logSoftmax(1).select(1, 7).sum().backward();
      return new Map([...model.gradients()].map(([name, gradient]) => [name, gradient.numbers()]));
    });
    const names = modulesOf(lora).flatMap((module) => ["A", "B"].map((factor) => `base_model.model.${module}.lora_${factor}.weight`));
    expect([...(fused?.keys() ?? [])]).toEqual(names);
    for (const [name, right] of expected ?? []) {
      const largest = Math.max(...right.map(Math.abs));
      expect(largest, name).toBeGreaterThan(1e-3);
      assertClose(fused?.get(name) ?? [], right, { rtol: 1e-4, atol: 1e-5 * largest + 1e-6 });
    }
  });
});

test("the gradients are the slopes of the loss: finite differences along a direction", async () => {
  const { model, lora } = await adapted(golden("tiny-llama"), { rank: 4 });
  model.loss(rows).backward();
  const direction = lora.blocks.map(({ flat }, i) => randn(flat.shape, new Generator(40 + i)));
  const slope = lora.blocks.reduce((sum, { gradient }, i) => sum + (gradient?.mul(direction[i] ?? 0).sum().item() ?? 0), 0);
  const lossAt = (step: number) => {
    noGrad(() => lora.blocks.forEach(({ flat }, i) => void (direction[i] && flat.add_(direction[i], step))));
    lora.merge();
    return noGrad(() => model.loss(rows).item());
  };
  const [up, down] = [lossAt(1e-3), lossAt(-2e-3)];
  assertClose(slope, (up - down) / 2e-3, { rtol: 2e-3, atol: 0 });
});

test("recomputing layers going backward gives the same gradients", async () => {
  const { model } = await adapted(golden("tiny-llama"));
  const gradients = () => {
    model.enableGradients();
    model.zeroGradients();
    model.loss(rows).backward();
    return [...model.gradients().values()].map((gradient) => gradient.numbers());
  };
  const plain = gradients();
  model.runner = checkpointingRunner;
  assertClose(gradients(), plain, { rtol: 1e-6, atol: 1e-9 });
});

describe("what trains", () => {
  const trained = (model: CausalLM | RewardModel) => {
    model.enableGradients();
    return [...model.gradients().keys()].filter((name) => !name.includes("lora_"));
  };
  const bytes = (model: CausalLM) => model.trainedBlocks.reduce((sum, { gradient }) => sum + (gradient?.size ?? 0), 0);

  test("only the adapters, without memory for anything else", async () => {
    const { model, lora } = await adapted(golden("tiny-llama"));
    expect(trained(model)).toEqual([]);
    expect(bytes(model)).toBe(lora.blocks.reduce((sum, { flat }) => sum + flat.size, 0));
  });

  test("without onlyLora also embeddings, norms, biases and head, and no matrix of a layer", async () => {
    const { model, lora } = await adapted(golden("tiny-llama3-biases"), { onlyLora: false });
    const matrix = /layers.*(proj|fc\d)\.weight$/;
    expect(trained(model)).toEqual(model.entries.map(({ name }) => name).filter((name) => !matrix.test(name)));
    const vectors = model.decoder.layers.reduce((sum, { flat, decayEnd }) => sum + flat.size - decayEnd, 0);
    const others = model.blocks.filter((block) => !model.decoder.layers.includes(block)).reduce((sum, { flat }) => sum + flat.size, 0);
    expect(bytes(model)).toBe(vectors + others + lora.blocks.reduce((sum, { flat }) => sum + flat.size, 0));
  });

  test("a reward model's head too, which is new", async () => {
    const model = await RewardModel.withNewHead(golden("tiny-llama"), { dtype: "float32", head: { seed: 1 } });
    model.addLora({ rank: 2 });
    expect(trained(model)).toEqual(["score.weight"]);
  });

  test("the gradients of vectors are those of full training", async () => {
    const path = golden("tiny-llama3-biases");
    const [{ model }, plain] = [await adapted(path, { onlyLora: false }), await CausalLM.load(path, { dtype: "float32" })];
    noGrad(() => {
      for (const { flat } of model.lora?.blocks ?? []) flat.zero_();
      model.lora?.merge();
    });
    for (const each of [model, plain]) each.loss(rows).backward();
    const full = plain.gradients();
    for (const [name, gradient] of model.gradients()) {
      if (!name.includes("lora_")) assertClose(gradient.numbers(), full.get(name)?.numbers() ?? [], { rtol: 1e-5, atol: 1e-6 });
    }
  });
});

describe("dropout", () => {
  test("changes training forwards, each in another way, and neither evaluation nor the weights that are generated with", async () => {
    const [{ model }, { model: plain }] = [await adapted(golden("tiny-llama"), { dropout: 0.5 }), await adapted(golden("tiny-llama"))];
    const loss = (of: CausalLM) => of.loss(rows).item();
    expect(noGrad(() => loss(model))).toBe(noGrad(() => loss(plain)));
    const losses = [loss(model), loss(model), loss(plain)];
    expect(new Set(losses).size).toBe(3);
    const { model: again } = await adapted(golden("tiny-llama"), { dropout: 0.5 });
    expect([loss(again), loss(again)]).toEqual(losses.slice(0, 2)); // the seed decides
  });

  test("keeps the mean: elements are dropped at the rate and the rest scaled up", async () => {
    const { lora, model } = await adapted(golden("tiny-llama"), { rank: 4, targets: "down_proj" });
    const block = model.decoder.layers[0] as (typeof model.decoder.layers)[number], x = randn([4, 160], new Generator(1));
    const through = (rate: number, seed: number) => noGrad(() => droppedProduct(rate, () => seed)(x, block, "down"));
    const plain = through(0, 0), base = noGrad(() => linear(x, (lora.layers[0] as (typeof lora.layers)[number]).baseOf("down")));
    let sum = through(0.25, 0);
    for (let seed = 1; seed < 400; seed++) sum = sum.add(through(0.25, seed));
    // The mean of 400 is the plain product, up to 1 / sqrt(400) of the deviation; without the scaling it would lack a quarter.
    const share = (y: typeof plain) => y.sub(base).mul(plain.sub(base)).sum().item() / plain.sub(base).norm().item() ** 2;
    assertClose(share(sum.div(400)), 1, { rtol: 0.05 });
  });

  test("is the same when layers are computed again going backward", async () => {
    const gradients = async (recomputes: boolean) => {
      const { model } = await adapted(golden("tiny-llama"), { dropout: 0.3 });
      if (recomputes) model.runner = checkpointingRunner;
      model.loss(rows).backward();
      return [...model.gradients().values()].map((gradient) => gradient.numbers());
    };
    assertClose(await gradients(true), await gradients(false), { rtol: 1e-5, atol: 1e-7 });
  });
});

describe("the model below its adapters", () => {
  test("gives what it gave before there were any, and shares its weights", async () => {
    const { model } = await adapted(golden("tiny-llama")), plain = await CausalLM.load(golden("tiny-llama"), { dtype: "float32" });
    const below = model.withoutLora();
    expect(noGrad(() => below.forward(rows)).numbers()).toEqual(noGrad(() => plain.forward(rows)).numbers());
    noGrad(() => model.blocks[0]?.flat.zero_());
    expect(below.blocks[0]?.flat.abs().max().item()).toBe(0);
  });

  test("is not to be had where its weights train", async () => {
    const { model } = await adapted(golden("tiny-llama"), { onlyLora: false });
    expect(() => model.withoutLora()).toThrow("internal: only under adapters do the weights stay as they are");
  });
});

describe("a saved model", () => {
  test("has the adapters merged, and loads without them", async () => {
    const { model } = await adapted(golden("tiny-llama")), folder = temporaryFolder();
    await model.save(folder);
    const loaded = await CausalLM.load(folder, { dtype: "float32" });
    assertClose(noGrad(() => loaded.forward(rows)), noGrad(() => model.forward(rows)), { rtol: 1e-6, atol: 1e-6 });
  });

  test("is what its base and its adapter give, in float32 and from a bfloat16 model", async () => {
    for (const dtype of ["float32", "bfloat16"] as const) {
      const base = writeTinyModel(join(temporaryFolder(), "base"), { family: "opt", dtype: "bfloat16" });
      const { model } = await adapted(base, {}, dtype), folder = temporaryFolder();
      model.saveAdapter(folder);
      const loaded = await CausalLM.load(base, { dtype, adapter: folder });
      expect(noGrad(() => loaded.forward(rows)).numbers()).toEqual(noGrad(() => model.forward(rows)).numbers());
    }
  });

  test("writes PEFT's file names, keys and settings", async () => {
    const { model } = await adapted(golden("tiny-llama"), { targets: "v_proj" }), folder = temporaryFolder();
    model.saveAdapter(folder);
    const tensors = readTensors(join(folder, "adapter_model.safetensors"));
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([0, 1].flatMap((layer) => [
      [`base_model.model.model.layers.${layer}.self_attn.v_proj.lora_A.weight`, [2, 64]],
      [`base_model.model.model.layers.${layer}.self_attn.v_proj.lora_B.weight`, [32, 2]],
    ]));
  });
});
