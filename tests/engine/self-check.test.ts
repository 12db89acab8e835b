import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { InferenceView } from "../../src/engine/inference-view.ts";
import type { KvCache } from "../../src/engine/kv-cache.ts";
import { checkModes, compareModes, type Inference } from "../../src/engine/self-check.ts";
import { EngineMismatchError } from "../../src/errors.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { cat } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { attendPacked, expandHeads, splitHeads } from "../nn/plain-attention.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const GOLDENS = fileURLToPath(new URL("../fixtures/goldens", import.meta.url));
const load = (name: string, dtype: "float32" | "bfloat16") => CausalLM.load(join(GOLDENS, name), { dtype });

type Fault = (model: CausalLM) => (cache: KvCache) => Inference;
type Attend = (offsets: readonly number[], q: Tensor, k: Tensor, v: Tensor) => Tensor;

/** Decoding places every token one further than it stands. */
const shiftedPositions: Fault = (model) => (cache) => {
  const view = new InferenceView(model, cache);
  return {
    prefill: (prompts, pages) => view.prefill(prompts, pages),
    decode: (tokens, positions, table) => view.decode(tokens, positions.map((p) => p + 1), table),
  };
};

/** Prefill attends as `attend` does; keys and values enter the cache as they should. */
const prefillWith = (attend: Attend): Fault => (model) => (cache) => {
  const { attention: shape } = model.spec;
  return new InferenceView(model, {
    decode: (table, positions) => cache.decode(table, positions),
    prefill: (rows, pages) => {
      const right = cache.prefill(rows, pages);
      return {
        attend: (layer, projected) => {
          right.attend(layer, projected); // rotates `projected` in place
          return attend(rows.offsets, ...splitHeads(projected, shape));
        },
      };
    },
  });
};

/** Every token sees its whole prompt, those after it too. */
const withoutCausalMask = prefillWith((offsets, q, k, v) => {
  const [total, heads, headDim] = q.shape as [number, number, number];
  const [queries, keys, values] = [q, expandHeads(k, heads), expandHeads(v, heads)]
    .map((x) => x.transpose(0, 1)) as [Tensor, Tensor, Tensor];
  const parts = offsets.slice(1).map((end, i) => {
    const of = (x: Tensor) => x.slice(1, offsets[i] ?? 0, end);
    const weights = of(queries).matmul(of(keys).transpose(1, 2)).mul(headDim ** -0.5).softmax(2).to(q.dtype);
    return weights.matmul(of(values)).transpose(0, 1);
  });
  return cat(parts).reshape([total, heads * headDim]);
});

/** Every prompt sees the prompts packed before it. */
const withoutSequenceMask = prefillWith((offsets, q, k, v) => attendPacked([0, offsets.at(-1) ?? 0], q, k, v));

/** Decoding reads and writes the pages of the next row. */
const foreignPages: Fault = (model) => (cache) => {
  const view = new InferenceView(model, cache);
  return {
    prefill: (prompts, pages) => view.prefill(prompts, pages),
    decode: (tokens, positions, table) => view.decode(tokens, positions, cat([table.slice(0, 1), table.slice(0, 0, 1)])),
  };
};

describe.each(["tiny-llama", "tiny-llama3-biases", "tiny-opt", "tiny-opt-postnorm"])("%s", (name) => {
  describe.each(["float32", "bfloat16"] as const)("in %s", (dtype) => {
    test("passes: the two modes have the same bits", async () => {
      const model = await load(name, dtype);
      checkModes(model);
      expect(compareModes(model)).toMatchObject({ mean: 0, largest: 0 });
    });

    test.each([
      ["positions shifted by one", shiftedPositions],
      ["prefill without causal mask", withoutCausalMask],
      ["prefill without mask between sequences", withoutSequenceMask],
      ["pages of another row", foreignPages],
    ])("is refused with %s", async (_fault, fault) => {
      const model = await load(name, dtype);
      expect(() => checkModes(model, fault(model))).toThrow(EngineMismatchError);
    });
  });
});

test("the error names model, dtype, the largest difference with its place, the mean and the tolerance", async () => {
  const model = await load("tiny-llama", "float32");
  const { largest, at, mean } = compareModes(model, withoutCausalMask(model));
  expect(() => checkModes(model, withoutCausalMask(model))).toThrow(
    expect.objectContaining({
      name: "EngineMismatchError",
      code: "E_MISMATCH",
      message:
        "LlamaForCausalLM in float32: generation gives other log-probabilities than training. The largest difference is " +
        `${largest.toPrecision(3)} nats at row ${at.row}, position ${at.position}, token ${at.token} (training ` +
        `${at.training.toPrecision(3)}, generation ${at.generation.toPrecision(3)}), the mean ${mean.toPrecision(3)}; allowed are ` +
        "0.000100. Training is refused: it would follow answers that the model does not give. Please report " +
        "this with the model's config.json",
    }),
  );
  expect(Math.abs(at.training - at.generation)).toBeCloseTo(largest, 12);
});

test("an engine is checked when it is made, unless told not to", async () => {
  const model = await load("tiny-opt", "float32");
  new HybridEngine(model);
  const right = model.logits.bind(model);
  model.logits = (hidden, product) => right(hidden.mul(1.01), product); // training computes its logits without this method
  expect(() => new HybridEngine(model)).toThrow(EngineMismatchError);
  expect(new HybridEngine(model, { selfCheck: false }).model).toBe(model);
});

test("models of very short contexts are checked too", async () => {
  for (const max_position_embeddings of [2, 8, 33]) {
    const folder = writeTinyModel(temporaryFolder(), { family: "llama", config: { max_position_embeddings } });
    const model = await CausalLM.load(folder, { dtype: "float32" });
    checkModes(model);
    // Of 2 tokens none is decoded.
    if (max_position_embeddings > 2) expect(() => checkModes(model, foreignPages(model))).toThrow(EngineMismatchError);
  }
});
