import { describe, expect, test } from "vitest";
import { TrainEngine, type TrainEngineOptions } from "../../src/engine/train-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { failure } from "../failure.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const rows = [[5, 6, 7, 8, 9], [10, 11]];
const adam: TrainEngineOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.01, gradientClip: 1 };

type Engine = TrainEngine<CausalLM>;

const makeEngine = async (changes: Partial<TrainEngineOptions> = {}, dtype: "float32" | "bfloat16" = "float32"): Promise<Engine> =>
  new TrainEngine(await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype }), { ...adam, ...changes });

/** One micro-batch, its loss times `factor`. */
function backward(engine: Engine, factor = 1): number {
  const forward = () => engine.model.tokenLogprobs(rows).logprobs.sum().mul(-factor);
  return engine.backward(forward(), forward);
}
/** A step that cannot be taken. */
function badStep(engine: Engine): number {
  backward(engine, Number.NaN);
  return engine.step(1e-2);
}
function goodStep(engine: Engine): number {
  backward(engine);
  return engine.step(1e-2);
}
function fillGradient({ model }: Engine, name: string, value: number): void {
  noGrad(() => model.gradients().get(name)?.fill_(value));
}
function fillParameter({ model }: Engine, name: string, value: number): void {
  noGrad(() => model.parameters().get(name)?.fill_(value));
}
const weightsOf = ({ model }: Engine) => model.blocks.map(({ flat }) => flat.numbers());
const gradientsOf = ({ model }: Engine) => [...model.gradients().values()].flatMap((gradient) => gradient.numbers());
const trainingError = (message: string) => ({ name: "TrainingError", code: "E_TRAINING", message });

// The tiny llama has 21 tensors: token table, 2 layers of 9, final norm, head.

describe("a loss that is not finite ends training and names", () => {
  test("the first parameter that is not finite: at the first step the model was damaged", async () => {
    const engine = await makeEngine();
    for (const name of ["model.norm.weight", "lm_head.weight"]) fillParameter(engine, name, Number.NaN);
    expect(failure(() => backward(engine))).toEqual(trainingError(
      'the loss became NaN at step 1: the parameter "model.norm.weight" (2 of 21) is not finite; ' +
        "nothing is trained yet, so the model that training starts from is damaged",
    ));
  });

  test("and later the learning rate was too high", async () => {
    const engine = await makeEngine();
    goodStep(engine);
    fillParameter(engine, "model.layers.1.mlp.up_proj.weight", Infinity);
    expect(failure(() => backward(engine))).toEqual(trainingError(
      'the loss became NaN at step 2: the parameter "model.layers.1.mlp.up_proj.weight" (1 of 21) is not finite; lower the learning rate',
    ));
  });

  test.each([["layer 0", "model.layers.0.mlp.down_proj.weight"], ["layer 1", "model.layers.1.self_attn.o_proj.weight"]])(
    "%s, whose output overflows though its parameters are finite", async (block, name) => {
      const engine = await makeEngine();
      fillParameter(engine, name, 3e38);
      const { runner } = engine.model;
      expect(failure(() => backward(engine))).toEqual(trainingError(
        `the loss became NaN at step 1: the output of block "${block}" is the first that is not finite; lower the learning rate`,
      ));
      expect(engine.model.runner).toBe(runner);
    });

  test("neither, when it arose behind the blocks", async () => {
    const engine = await makeEngine({}, "bfloat16");
    expect(failure(() => backward(engine, Number.NaN))).toEqual(trainingError(
      "the loss became NaN at step 1: the parameters and the blocks' outputs are finite; lower the learning rate, or train in float32",
    ));
  });
});

describe("a gradient that is not finite ends training, leaves the parameters alone and names", () => {
  test("the first one on the way back from the loss", async () => {
    const engine = await makeEngine();
    const before = weightsOf(engine);
    backward(engine);
    fillGradient(engine, "model.embed_tokens.weight", Number.NaN);
    fillGradient(engine, "model.layers.0.self_attn.k_proj.weight", -Infinity);
    fillGradient(engine, "model.layers.1.self_attn.v_proj.weight", Infinity);
    expect(failure(() => engine.step(1e-3))).toEqual(trainingError(
      "the gradient's norm became NaN at step 1: on the way back from the loss that of " +
        '"model.layers.1.self_attn.v_proj.weight" (3 of 21) is the first that is not finite; lower the learning rate',
    ));
    expect(weightsOf(engine)).toEqual(before);
    expect(engine.numSteps).toBe(0);
  });

  test("none, when all are finite and only their squares are too large", async () => {
    const engine = await makeEngine();
    fillGradient(engine, "lm_head.weight", 1e20); // 1e40 is beyond float32
    expect(failure(() => engine.step(1e-3))).toEqual(
      trainingError("the gradient's norm became Infinity at step 1: its squares overflow; lower the learning rate"),
    );
  });
});

describe("with skipping", () => {
  test("a step with a bad loss in one micro-batch is left out: the next one is as if there had been none", async () => {
    const [engine, fresh] = [await makeEngine({ onNonFinite: "skip" }), await makeEngine()];
    backward(engine);
    expect(backward(engine, Number.NaN)).toBeNaN();
    backward(engine);
    expect(engine.step(1e-2)).toBeNaN();
    expect(gradientsOf(engine).every((x) => x === 0)).toBe(true);
    expect([engine.numSteps, engine.skippedSteps]).toEqual([0, 1]);
    expect(goodStep(engine)).toBe(goodStep(fresh));
    expect(weightsOf(engine)).toEqual(weightsOf(fresh));
    expect([engine.numSteps, engine.skippedSteps]).toEqual([1, 1]);
  });

  test("so is one with a bad gradient", async () => {
    const [engine, fresh] = [await makeEngine({ onNonFinite: "skip" }), await makeEngine()];
    backward(engine);
    fillGradient(engine, "lm_head.weight", -Infinity);
    expect(engine.step(1e-2)).toBe(Infinity);
    expect([engine.numSteps, engine.skippedSteps]).toEqual([0, 1]);
    expect(goodStep(engine)).toBe(goodStep(fresh));
    expect(weightsOf(engine)).toEqual(weightsOf(fresh));
  });

  test("the tenth in a row ends training, whatever was skipped before a good one", async () => {
    const engine = await makeEngine({ onNonFinite: "skip" });
    for (let i = 0; i < 9; i++) badStep(engine);
    goodStep(engine);
    for (let i = 0; i < 9; i++) badStep(engine);
    expect([engine.numSteps, engine.skippedSteps]).toEqual([1, 18]);
    expect(failure(() => badStep(engine))).toEqual(trainingError(
      "10 steps in a row could not be taken; the last one: the loss became NaN at step 20: " +
        "the parameters and the blocks' outputs are finite; lower the learning rate",
    ));
  });

  test("a parameter that is not finite ends training at once: every further step would be the same", async () => {
    const engine = await makeEngine({ onNonFinite: "skip" });
    fillParameter(engine, "lm_head.weight", Number.NaN);
    expect(failure(() => backward(engine)).message).toContain('the parameter "lm_head.weight" (1 of 21) is not finite');
  });
});
