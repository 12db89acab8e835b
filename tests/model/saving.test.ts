import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { readTensors } from "./safetensors-file.ts";
import { type TinyModelOptions, writeTinyModel } from "./tiny-model.ts";

const tensorsIn = (folder: string) => readTensors(join(folder, "model.safetensors"));
const jsonIn = (folder: string, name: string) => JSON.parse(readFileSync(join(folder, name), "utf8")) as Record<string, unknown>;

/** The nearest number with `bits` bits of significand that is a multiple of `least`, the smallest subnormal; ties to even. */
function rounded(x: number, bits: number, least = 2 ** -149): number {
  if (x === 0) return 0;
  const unit = Math.max(2 ** (Math.floor(Math.log2(Math.abs(x))) - bits + 1), least);
  const whole = Math.floor(x / unit),
    rest = x / unit - whole;
  return unit * (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0) ? whole + 1 : whole);
}

describe.each<[string, TinyModelOptions]>([
  ["llama with biases and a head of its own", { family: "llama", config: { attention_bias: true, mlp_bias: true, head_dim: 12 } }],
  ["llama with a tied head", { family: "llama", config: { tie_word_embeddings: true } }],
  ["opt", { family: "opt" }],
  [
    "opt with narrow embeddings",
    { family: "opt", config: { word_embed_proj_dim: 16, do_layer_norm_before: false, tie_word_embeddings: false } },
  ],
])("%s", (_name, options) => {
  test.each([
    ["float32", "F32", 24, 2 ** -149],
    ["bfloat16", "BF16", 8, 2 ** -133],
    ["float16", "F16", 11, 2 ** -24],
  ] as const)("saved as %s has the tensors of its checkpoint, rounded once", async (dtype, tag, bits, least) => {
    const source = writeTinyModel(temporaryFolder(), options),
      folder = temporaryFolder();
    await (await CausalLM.load(source, { dtype: "float32" })).save(folder, { dtype });
    const original = tensorsIn(source),
      saved = tensorsIn(folder);
    expect([...saved.keys()].sort()).toEqual([...original.keys()].sort());
    for (const [name, { shape, data }] of original) {
      expect(saved.get(name), name).toEqual({ dtype: tag, shape, data: data.map((x) => rounded(x, bits, least)) });
    }
    const old = options.family === "llama" ? { rope_theta: 10000, rope_scaling: null } : {}; // the spelling of transformers 4
    expect(jsonIn(folder, "config.json")).toEqual({ ...jsonIn(source, "config.json"), ...old, dtype, torch_dtype: dtype });
  });

  test("a bfloat16 model that is saved in its source's float32 and one from its optimizer's masters differ as they must", async () => {
    const source = writeTinyModel(temporaryFolder(), options);
    const model = await CausalLM.load(source, { dtype: "bfloat16" });
    const [fromModel, fromMasters] = [temporaryFolder(), temporaryFolder()];
    await model.save(fromModel);
    await model.save(fromMasters, { flatOf: (block) => model.masterOf(block) });
    for (const [name, { data, ...rest }] of tensorsIn(source)) {
      expect(tensorsIn(fromModel).get(name), name).toEqual({ ...rest, data: data.map((x) => rounded(x, 8)) });
      expect(tensorsIn(fromMasters).get(name), name).toEqual({ ...rest, data });
    }
  });
});

test("a folder keeps the dtype of its source, whatever the model runs in", async () => {
  const source = writeTinyModel(temporaryFolder(), { family: "llama", dtype: "bfloat16" });
  for (const dtype of ["float32", "bfloat16"] as const) {
    const folder = temporaryFolder();
    await (await CausalLM.load(source, { dtype })).save(folder);
    expect(tensorsIn(folder)).toEqual(tensorsIn(source));
    expect(jsonIn(folder, "config.json").dtype).toBe("bfloat16");
  }
});

test("a changed model is saved changed, with tokenizer, template and generation configuration, into a folder that is made", async () => {
  const source = writeTinyModel(temporaryFolder(), { family: "llama", tokenizer: true });
  writeFileSync(join(source, "chat_template.jinja"), "{{ messages[0].content }}\n");
  writeFileSync(join(source, "notes.txt"), "not part of a model");
  const model = await CausalLM.load(source, { dtype: "float32" });
  noGrad(() => model.decoder.embedding.leaf("tokens").fill_(0.5));
  model.generationConfig = { ...model.generationConfig, eos_token_id: [2, 7] };
  const folder = join(temporaryFolder(), "runs", "final");
  await model.save(folder);
  expect(readdirSync(folder).sort()).toEqual([
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  for (const name of ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"])
    expect(readFileSync(join(folder, name))).toEqual(readFileSync(join(source, name)));
  expect(jsonIn(folder, "generation_config.json")).toEqual({ bos_token_id: 1, eos_token_id: [2, 7] });
  expect(
    tensorsIn(folder)
      .get("model.embed_tokens.weight")
      ?.data.every((x) => x === 0.5),
  ).toBe(true);
  expect(tensorsIn(folder).get("model.norm.weight")).toEqual(tensorsIn(source).get("model.norm.weight"));
});

test("an old configuration's torch_dtype is renewed, with dtype beside it", async () => {
  const source = writeTinyModel(temporaryFolder(), { family: "llama", config: { torch_dtype: "float16" } }),
    folder = temporaryFolder();
  await (await CausalLM.load(source, { dtype: "float32" })).save(folder);
  expect(jsonIn(folder, "config.json")).toMatchObject({ dtype: "float32", torch_dtype: "float32" });
});

test("saving over its own source leaves the optimizer's masters as they were", async () => {
  const folder = writeTinyModel(temporaryFolder(), { family: "llama" });
  const model = await CausalLM.load(folder, { dtype: "bfloat16" });
  const masters = () => model.blocks.map((block) => model.masterOf(block).numbers());
  const before = masters();
  await model.save(folder, { dtype: "bfloat16" }); // half as long as the file that is mapped
  expect(masters()).toEqual(before);
  expect(existsSync(join(folder, "model.safetensors.part"))).toBe(false);
  expect(tensorsIn(folder).get("lm_head.weight")?.dtype).toBe("BF16");
});

test("masters are what the model holds once its source is released", async () => {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "opt" }), { dtype: "bfloat16" });
  const [block] = model.blocks;
  if (!block) throw new Error("a model has blocks");
  expect(model.masterOf(block).dtype).toBe("float32");
  expect(model.masterOf(block).numbers()).not.toEqual(block.flat.numbers());
  model.releaseSource();
  expect(model.masterOf(block).numbers()).toEqual(block.flat.numbers());
});
