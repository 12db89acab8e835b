import { describe, expect, test } from "vitest";
import { TrainEngine, type TrainEngineOptions } from "../../src/engine/train-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { checkpointingRunner } from "../../src/model/layer-runner.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { readTensors } from "../model/safetensors-file.ts";
import { type TinyModelOptions, writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const options: TrainEngineOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.01, gradientClip: 1 };
const rows = [
  [5, 6, 7, 8, 9],
  [10, 11],
  [12, 13, 14, 15, 16, 17, 18],
  [19, 20, 21],
];
const totalTokens = 4 + 1 + 6 + 2; // all but first ones

const makeEngine = async (
  model: TinyModelOptions = { family: "llama" },
  dtype: "float32" | "bfloat16" = "float32",
  changes: Partial<TrainEngineOptions> = {},
) => new TrainEngine(await CausalLM.load(writeTinyModel(temporaryFolder(), model), { dtype }), { ...options, ...changes });

/** Loss and gradients of the rows, cut into these micro-batches. */
function lossOf(engine: TrainEngine<CausalLM>, parts: readonly (readonly number[][])[]): number {
  return parts.reduce((sum, part) => sum + engine.backward(engine.model.tokenLogprobs(part).logprobs.sum().div(-totalTokens)), 0);
}
const gradientsOf = ({ model }: TrainEngine) => [...model.gradients()].map(([name, gradient]) => ({ name, numbers: gradient.numbers() }));
const weightsOf = ({ model }: TrainEngine) => model.blocks.map(({ flat }) => flat.numbers());

describe.each<[string, TinyModelOptions]>([
  ["llama", { family: "llama" }],
  ["llama with a tied head", { family: "llama", config: { tie_word_embeddings: true } }],
  ["opt", { family: "opt" }],
])("the loss and the gradients of %s", (_name, model) => {
  test.each<[string, number[][][]]>([
    ["two micro-batches", [rows.slice(0, 2), rows.slice(2)]],
    ["one sequence each", rows.map((row) => [row])],
    ["another order", [[...rows].reverse()]],
    [
      "another order and cut",
      [
        [rows[2] ?? [], rows[0] ?? []],
        [rows[3] ?? [], rows[1] ?? []],
      ],
    ],
  ])("do not depend on the cut of the minibatch: %s", async (_cut, parts) => {
    const whole = await makeEngine(model),
      cut = await makeEngine(model);
    assertClose(lossOf(cut, parts), lossOf(whole, [rows]), { rtol: 1e-6 });
    const expected = gradientsOf(whole);
    // Relative to the largest of all (some, such as those of key biases, are zero but for rounding): 3e-6 is 50 roundings of float32.
    const largest = Math.max(...expected.flatMap(({ numbers }) => numbers.map(Math.abs)));
    expect(largest).toBeGreaterThan(0.1);
    for (const [i, { name, numbers }] of gradientsOf(cut).entries()) {
      expect(expected[i]?.name).toBe(name);
      assertClose(
        numbers.map((x) => x / largest),
        expected[i]?.numbers.map((x) => x / largest) ?? [],
        { rtol: 0, atol: 3e-6 },
      );
    }
  });

  test.each(["float32", "bfloat16"] as const)("in %s are the same with gradient checkpointing, and so is the step", async (dtype) => {
    const plain = await makeEngine(model, dtype),
      checkpointing = await makeEngine(model, dtype, { gradientCheckpointing: true });
    expect(checkpointing.model.runner).toBe(checkpointingRunner);
    for (const engine of [plain, checkpointing])
      for (let step = 0; step < 3; step++) {
        lossOf(engine, [rows.slice(0, 2), rows.slice(2)]);
        engine.step(1e-2);
      }
    expect(weightsOf(checkpointing)).toEqual(weightsOf(plain));
  });
});

describe("step", () => {
  test("clears the gradients, counts, and returns the norm before clipping", async () => {
    const engine = await makeEngine();
    lossOf(engine, [rows]);
    const norm = Math.hypot(...gradientsOf(engine).flatMap(({ numbers }) => numbers));
    expect(norm).toBeGreaterThan(1.5); // so that clipping to 1 would show
    assertClose(engine.step(1e-3), norm, { rtol: 1e-5 });
    expect(engine.numSteps).toBe(1);
    expect(
      gradientsOf(engine)
        .flatMap(({ numbers }) => numbers)
        .every((x) => x === 0),
    ).toBe(true);
  });

  test("lowers the loss of what it was trained on", async () => {
    const engine = await makeEngine();
    const losses = Array.from({ length: 10 }, () => {
      const loss = lossOf(engine, [rows]);
      engine.step(1e-2);
      return loss;
    });
    expect(losses.at(-1)).toBeLessThan((losses[0] ?? 0) / 2);
  });

  test("clipping changes a step as a smaller gradient would: with a large epsilon the step is proportional to the gradient", async () => {
    // epsilon dominates the denominator: the first step is -lr * g / (|g| + 1e6), so half the gradient makes half the step
    const proportional = { epsilon: 1e6, weightDecay: 0 };
    const start = weightsOf(await makeEngine());
    const moved = async (gradientClip: number): Promise<{ norm: number; moves: number[] }> => {
      const engine = await makeEngine({ family: "llama" }, "float32", { ...proportional, gradientClip });
      lossOf(engine, [rows]);
      const norm = engine.step(1e7);
      return { norm, moves: weightsOf(engine).flatMap((block, i) => block.map((w, j) => w - (start[i]?.[j] ?? 0))) };
    };
    const free = await moved(Infinity);
    const clipped = await moved(free.norm / 4);
    assertClose(Math.hypot(...clipped.moves), Math.hypot(...free.moves) / 4, { rtol: 1e-4 });
  });

  test("in bfloat16 follows float32: after three steps the master weights are within the noise of bfloat16", async () => {
    const checkpoint: TinyModelOptions = { family: "llama", dtype: "bfloat16" };
    const [exact, half] = [await makeEngine(checkpoint), await makeEngine(checkpoint, "bfloat16")];
    for (const engine of [exact, half])
      for (let step = 0; step < 3; step++) {
        lossOf(engine, [rows]);
        engine.step(1e-2);
      }
    const start = weightsOf(await makeEngine(checkpoint)).flat();
    const moves = (engine: TrainEngine) =>
      weightsOf(engine)
        .flat()
        .map((w, i) => w - (start[i] ?? 0));
    const [a, b] = [moves(exact), moves(half)];
    const cosine = a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0) / (Math.hypot(...a) * Math.hypot(...b));
    expect(cosine).toBeGreaterThan(0.95); // Adam's first steps are signs, of which the small ones are noise
  });
});

describe("save", () => {
  test("of a float32 checkpoint trained in bfloat16 writes the float32 master, not the rounded weights", async () => {
    const engine = await makeEngine({ family: "llama" }, "bfloat16");
    lossOf(engine, [rows]);
    engine.step(1e-3);
    const folder = temporaryFolder();
    await engine.save(folder);
    const saved = readTensors(`${folder}/model.safetensors`).get("lm_head.weight");
    const rounded = noGrad(() => engine.model.headWeight.to("float32").numbers());
    expect(saved?.dtype).toBe("F32");
    assertClose(saved?.data ?? [], rounded, { rtol: 2 ** -8 });
    expect(saved?.data).not.toEqual(rounded);
  });
});

describe("gradients that are released", () => {
  test.each(["float32", "bfloat16"] as const)("take no memory between steps and change no bit of them: %s", async (dtype) => {
    const [kept, released] = [await makeEngine(undefined, dtype), await makeEngine(undefined, dtype, { releasesGradients: true })];
    for (let step = 0; step < 3; step++) {
      expect(released.model.trainedBlocks).toEqual([]);
      const losses = [kept, released].map((engine) => lossOf(engine, [rows.slice(0, 2), rows.slice(2)]));
      expect(losses[1]).toBe(losses[0]);
      expect(gradientsOf(released)).toEqual(gradientsOf(kept));
      expect(released.step(1e-2)).toBe(kept.step(1e-2));
      expect(weightsOf(released)).toEqual(weightsOf(kept));
    }
  });

  test("a model without them can be frozen: a forward then has no gradient", async () => {
    const { model } = await makeEngine(undefined, "float32", { releasesGradients: true });
    expect(model.tokenLogprobs(rows).logprobs.requiresGrad).toBe(true);
    expect(model.freeze().tokenLogprobs(rows).logprobs.requiresGrad).toBe(false);
  });
});
