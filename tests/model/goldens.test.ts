import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { families } from "../../src/model/families/registry.ts";
import { packRows } from "../../src/model/packing.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { type PlainTensor, readTensors } from "./safetensors-file.ts";

const GOLDENS = fileURLToPath(new URL("../fixtures/goldens", import.meta.url));
const folders = readdirSync(GOLDENS).filter((name) => existsSync(join(GOLDENS, name, "golden.safetensors")));

test("there are reference outputs for every family", () => {
  const configs = folders.map((name) => JSON.parse(readFileSync(join(GOLDENS, name, "config.json"), "utf8")) as { model_type: string });
  const types = configs.map(({ model_type }) => model_type);
  expect(new Set(types)).toEqual(new Set(families.map(({ modelType }) => modelType)));
});

describe.each(folders)("%s gives what transformers gives:", (name) => {
  const golden = readTensors(join(GOLDENS, name, "golden.safetensors"));
  const load = () => CausalLM.load(join(GOLDENS, name), { dtype: "float32" });
  const left = { tokens: rows("input_ids"), attentionMask: rows("attention_mask") };
  const right = { tokens: rows("right_input_ids"), attentionMask: rows("right_attention_mask") };
  const prompts = left.tokens.map((row, i) => row.filter((_, t) => left.attentionMask[i]?.[t] === 1));

  function entry(key: string): PlainTensor {
    const tensor = golden.get(key);
    if (!tensor) throw new Error(`${name} has no ${key}`);
    return tensor;
  }
  /** [rows][columns] of an entry, all but the last dimension as rows. */
  function rows(key: string): number[][] {
    const { shape, data } = entry(key);
    const width = shape.at(-1) ?? 1;
    return Array.from({ length: data.length / width }, (_, i) => data.slice(i * width, (i + 1) * width));
  }
  /** The rows of an entry whose token counts. */
  const counted = (key: string, mask: number[][]) => rows(key).filter((_, i) => mask.flat()[i] === 1);

  test("hidden states", async () => {
    const model = await load();
    const hidden = noGrad(() => model.hidden(packRows(prompts)));
    assertClose(hidden, counted("hidden", left.attentionMask), { rtol: 1e-4, atol: 1e-5 });
  });

  test.each([
    ["left", left, golden.has("logits_pos") ? "logits_pos" : "logits"],
    ["right", right, "right_logits"],
  ] as const)("logits, padded on the %s", async (_side, batch, key) => {
    const model = await load();
    const logits = noGrad(() => model.forward(batch.tokens, batch)).toArray() as number[][][];
    assertClose(
      logits.flat().filter((_, i) => batch.attentionMask.flat()[i] === 1),
      counted(key, batch.attentionMask),
      { rtol: 1e-4, atol: 3e-5 },
    );
  });

  test("log-probabilities of the tokens that follow a counted one", async () => {
    const model = await load();
    const logprobs = noGrad(() => model.logprobs(left.tokens, left)).toArray() as number[][];
    const follows = left.attentionMask.flatMap((mask) => mask.slice(0, -1));
    const keep = (values: number[][]) => values.flat().filter((_, i) => follows[i] === 1);
    assertClose(keep(logprobs), keep(rows("logprobs")), { rtol: 1e-5, atol: 2e-5 });
    expect(logprobs.flat().filter((value, i) => follows[i] === 0 && value !== 0)).toEqual([]);
  });

  test("loss and every gradient", async () => {
    const model = await load();
    const loss = model.loss(right.tokens, right);
    assertClose(loss.item(), entry("loss").data[0] ?? Number.NaN, { rtol: 1e-6 });
    loss.backward();
    const expected = readTensors(join(GOLDENS, name, "golden-grads.safetensors"));
    const gradients = model.gradients();
    expect([...gradients.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [key, { shape, data }] of expected) {
      expect(gradients.get(key)?.shape, key).toEqual(shape);
      const largest = data.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
      assertClose(gradients.get(key)?.numbers() ?? [], data, { rtol: 1e-4, atol: 1e-4 * largest + 1e-6 });
    }
  });

  test("greedy tokens through the cache", async () => {
    const { responses } = new HybridEngine(await load()).generate(prompts, { maxNewTokens: 8, temperature: 0, eosTokenId: null });
    expect(responses).toEqual(rows("greedy").map((row) => row.slice(-8)));
  });

  test("greedy tokens in bfloat16, where the second best is not within its rounding", async () => {
    const models = [await load(), await CausalLM.load(join(GOLDENS, name), { dtype: "bfloat16" })];
    const answers = rows("greedy").map((row) => row.slice(-8));
    let compared = 0;
    for (const [i, prompt] of prompts.entries()) {
      const sequence = [...prompt, ...(answers[i] ?? [])];
      const [exact = [], rounded = []] = models.map((model) => (noGrad(() => model.forward([sequence])).toArray() as number[][][])[0]);
      for (const [t, token] of (answers[i] ?? []).entries()) {
        const at = prompt.length + t - 1, [first = 0, second = 0] = [...(exact[at] ?? [])].sort((a, b) => b - a);
        if (first - second < 0.03) continue; // logits here are near 2, of which bfloat16 keeps steps of 0.008
        expect(rounded[at]?.indexOf(Math.max(...(rounded[at] ?? [])))).toBe(token);
        compared++;
      }
    }
    expect(compared).toBeGreaterThanOrEqual(12); // of 24
  });
});
