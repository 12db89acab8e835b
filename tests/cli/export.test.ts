import { cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { exportModel } from "../../src/cli/export-model.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { readGgufHeader } from "../../src/tokenizer/gguf-header.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { rejection } from "../failure.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const fixture = (name: string) => fileURLToPath(new URL(join("../fixtures", name), import.meta.url));
const rows = [[5, 6, 7, 8], [9, 10, 11, 12]];
const defaults = { adapter: undefined, format: "gguf", dtype: "auto" } as const;

async function logits(path: string, adapter?: string): Promise<number[]> {
  const model = await CausalLM.load(path, { dtype: "float32", adapter });
  return noGrad(() => model.forward(rows)).numbers();
}

function tinyFolder(config: Readonly<Record<string, unknown>> = {}, dtype: "float32" | "bfloat16" = "float32"): string {
  return writeTinyModel(join(temporaryFolder(), "model"), { family: "llama", tokenizer: true, config, dtype });
}

describe("a GGUF file", () => {
  test("is the same model with the same tokenizer", async () => {
    const model = tinyFolder(), output = join(temporaryFolder(), "model.gguf");
    expect(await exportModel({ ...defaults, model, output })).toBe(`${output}: 0 MiB`);
    expect(await logits(output)).toEqual(await logits(model));
    const [before, after] = [await Tokenizer.load(model), await Tokenizer.load(output)];
    const messages = [{ role: "user", content: "How many 12 cats?" }] as const;
    expect(await after.encodePrompt(messages)).toEqual(await before.encodePrompt(messages));
    expect([after.eosTokenId, after.padTokenId, after.chatTemplate]).toEqual([before.eosTokenId, before.padTokenId, before.chatTemplate]);
  });

  test("has matrices in the format asked for, and vectors in float32", async () => {
    const types = { f32: 0, f16: 1, bf16: 30, q8_0: 8 } as const, fileTypes = { f32: 0, f16: 1, bf16: 32, q8_0: 7 } as const;
    for (const dtype of ["f32", "f16", "bf16", "q8_0"] as const) {
      const output = join(temporaryFolder(), "model.gguf");
      await exportModel({ ...defaults, model: tinyFolder({ intermediate_size: 40 }), dtype, output });
      const { metadata, tensors } = readGgufHeader(output);
      const typeOf = (name: string) => tensors.find((tensor) => tensor.name === name)?.type;
      expect(metadata["general.file_type"]).toBe(fileTypes[dtype]);
      expect([typeOf("blk.0.attn_q.weight"), typeOf("blk.1.attn_norm.weight")]).toEqual([types[dtype], 0]);
      // Rows of 40 are no blocks of 32.
      expect(typeOf("blk.0.ffn_down.weight")).toBe(dtype === "q8_0" ? 1 : types[dtype]);
    }
  });

  test("takes the format of the model, and rounds where another is asked for", async () => {
    const model = tinyFolder({}, "bfloat16"), folder = temporaryFolder();
    await exportModel({ ...defaults, model, output: join(folder, "auto.gguf") });
    expect(readGgufHeader(join(folder, "auto.gguf")).metadata["general.file_type"]).toBe(32);
    await exportModel({ ...defaults, model, dtype: "q8_0", output: join(folder, "q8.gguf") });
    const [exact, rounded] = [await logits(model), await logits(join(folder, "q8.gguf"))];
    const largest = Math.max(...exact.map((value, i) => Math.abs(value - (rounded[i] ?? Number.NaN))));
    expect(largest).toBeGreaterThan(0);
    expect(largest).toBeLessThan(0.05 * Math.max(...exact.map(Math.abs)));
  });

  test("has an adapter merged in", async () => {
    const model = join(temporaryFolder(), "model"), output = join(temporaryFolder(), "model.gguf");
    const adapter = fixture("adapters/llama-some");
    cpSync(fixture("goldens/tiny-llama"), model, { recursive: true });
    cpSync(fixture("tokenizer/chatml"), model, { recursive: true });
    await exportModel({ ...defaults, model, adapter, output });
    expect(await logits(output)).toEqual(await logits(model, adapter));
    expect(await logits(output)).not.toEqual(await logits(model));
  });

  test("is not there when a file of the model is missing", async () => {
    const output = join(temporaryFolder(), "model.gguf");
    const error = await rejection(() => exportModel({ ...defaults, model: fixture("goldens/tiny-llama"), output }));
    expect(error).toMatchObject({ code: "E_CHECKPOINT", message: expect.stringContaining("has no tokenizer.json") });
    expect([existsSync(output), existsSync(`${output}.part`)]).toEqual([false, false]);
  });
});

test("a Hugging Face folder is written in another format", async () => {
  const model = tinyFolder(), output = join(temporaryFolder(), "half");
  await exportModel({ ...defaults, model, format: "hf", dtype: "f16", output });
  expect(new Set([...readTensors(join(output, "model.safetensors")).values()].map(({ dtype }) => dtype))).toEqual(new Set(["F16"]));
  expect((await Tokenizer.load(output)).vocabSize).toBe(400);
});

describe("what cannot be exported is refused", () => {
  test("an output that exists, one of another name, and 8 bits in a folder", async () => {
    const model = tinyFolder(), output = join(temporaryFolder(), "model.gguf");
    writeFileSync(output, "");
    const refused = async (settings: object) => (await rejection(() => exportModel({ ...defaults, model, output, ...settings }))).message;
    expect(await refused({})).toBe(`--output: ${output} exists; choose another file`);
    expect(await refused({ output: "model.bin" })).toBe("--output: model.bin: the name of a GGUF file ends in .gguf");
    expect(await refused({ output: "model", format: "hf", dtype: "q8_0" })).toBe(
      "--dtype q8_0 is for --format gguf: a Hugging Face folder is f32, f16 or bf16",
    );
  });

  test("a family, an activation and a rope type that llama.cpp does not have, each by name", async () => {
    const refused = async (model: string) =>
      (await rejection(() => exportModel({ ...defaults, model, output: join(temporaryFolder(), "model.gguf") }))).message;
    const opt = writeTinyModel(join(temporaryFolder(), "opt"), { family: "opt", tokenizer: true });
    expect(await refused(opt)).toBe(
      `${opt}: model_type "opt" cannot be exported to GGUF, expected one of llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text, ` +
        "phi3, gpt2, gpt_neox, bloom, falcon, stablelm",
    );
    const gelu = tinyFolder({ hidden_act: "gelu" });
    expect(await refused(gelu)).toBe(
      `${gelu}: config.json: "hidden_act" is "gelu", llama.cpp's llama computes with "silu": it cannot be exported to GGUF`,
    );
    expect(await refused(tinyFolder({ rope_parameters: { rope_type: "dynamic", factor: 2 } }))).toBe(
      'config.json: rope type "dynamic" cannot be exported to GGUF; expected default, linear, llama3 or yarn',
    );
  });

  test("a reward model", async () => {
    const base = tinyFolder(), folder = join(temporaryFolder(), "reward");
    const reward = await RewardModel.withNewHead(base, { dtype: "float32", head: { seed: 1 } });
    await reward.save(folder, { padTokenId: 0 });
    expect((await rejection(() => exportModel({ ...defaults, model: folder, output: join(temporaryFolder(), "r.gguf") }))).message).toBe(
      `--model: ${folder} is a reward model, which llama.cpp does not have; export it with --format hf`,
    );
  });
});
