import { describe, expect, test } from "vitest";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { type RolloutOptions, rollOut } from "../../src/ppo/rollout.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { prompts } from "./tiny-rlhf.ts";

const options: RolloutOptions = {
  maxNewTokens: 10,
  minNewTokens: 0,
  temperature: 1,
  samplesPerPrompt: 1,
  seed: 3,
  endToken: 2,
  promptsBefore: 0,
};

const loadModel = () => CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" });

/** Tokens that end answers often enough: every answer of this model with this seed has one of 96. */
const endsOften = async (model: CausalLM) => {
  const { responses } = rollOut(new HybridEngine(model), prompts, { ...options, endToken: 95 });
  return responses[0]?.[4] ?? 0; // the first answer has it in its middle
};

describe("rollOut", () => {
  test("masks the generated tokens up to the end token, which is one of them", async () => {
    const model = await loadModel();
    const endToken = await endsOften(model);
    const { responses, responseMask, finishReasons } = rollOut(new HybridEngine(model), prompts, { ...options, endToken });
    const width = Math.max(...responses.map((response) => response.length));
    expect(responses[0]).toHaveLength(5);
    expect(responses[0]?.at(-1)).toBe(endToken);
    expect(finishReasons[0]).toBe("eos");
    expect(finishReasons).toEqual(responses.map((response) => (response.at(-1) === endToken ? "eos" : "length")));
    expect(responseMask.toArray()).toEqual(
      responses.map((response) => Array.from({ length: width }, (_, t) => Number(t < response.length))),
    );
  });

  test("of the same run seed gives the same answers however many slots there are", async () => {
    const model = await loadModel();
    const sampled = [1, 3, 8, 32].map((numSlots) => rollOut(new HybridEngine(model, { numSlots }), prompts, options).responses);
    expect(sampled[0]).toHaveLength(8);
    for (const responses of sampled.slice(1)) expect(responses).toEqual(sampled[0]);
    expect(rollOut(new HybridEngine(model), prompts, { ...options, seed: 4 }).responses).not.toEqual(sampled[0]);
  });

  test("gives a prompt its answers side by side, each with draws of its own", async () => {
    const model = await loadModel();
    const rollout = rollOut(new HybridEngine(model), prompts.slice(0, 2), { ...options, samplesPerPrompt: 3 });
    expect(rollout.prompts).toEqual([prompts[0], prompts[0], prompts[0], prompts[1], prompts[1], prompts[1]]);
    expect(new Set(rollout.responses.map(String)).size).toBe(6);
  });

  test("never repeats the draws of an earlier rollout of the run: its requests are counted on", async () => {
    const model = await loadModel(),
      engine = new HybridEngine(model);
    const sampling = { ...options, samplesPerPrompt: 2 };
    const whole = rollOut(engine, prompts, sampling).responses;
    const [first, second] = [
      rollOut(engine, prompts.slice(0, 5), sampling).responses,
      rollOut(engine, prompts.slice(5), { ...sampling, promptsBefore: 5 }).responses,
    ];
    expect([...first, ...second]).toEqual(whole);
    const [prompt = []] = prompts;
    expect(rollOut(engine, [prompt], { ...options, promptsBefore: 1 }).responses).not.toEqual(rollOut(engine, [prompt], options).responses);
  });

  test("keeps the end token out of answers that are too short", async () => {
    const model = await loadModel();
    const endToken = await endsOften(model);
    const { responses } = rollOut(new HybridEngine(model), prompts, { ...options, endToken, minNewTokens: 8 });
    for (const response of responses) expect(response.indexOf(endToken) === -1 || response.indexOf(endToken) >= 8).toBe(true);
  });

  test("stops when asked to", async () => {
    const model = await loadModel();
    let steps = 0;
    const error = failure(() => rollOut(new HybridEngine(model), prompts, { ...options, stopRequested: () => ++steps > 4 }));
    expect(error).toEqual({
      name: "GenerationStopped",
      code: undefined,
      message: "generation was stopped before all answers were complete",
    });
    expect(steps).toBe(5);
  });
});
