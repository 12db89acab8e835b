import { describe, expect, test } from "vitest";
import { type LoopBody, type LoopConfig, trainingLoop } from "../../src/engine/training-loop.ts";
import { Interrupted } from "../../src/errors.ts";
import { assertClose } from "../assert-close.ts";
import { rejection } from "../failure.ts";
import { MemoryRun } from "../pipeline/memory-run.ts";

const defaults: LoopConfig = {
  learningRate: 0.1,
  schedule: "linear",
  warmupRatio: 0,
  epochs: 1,
  miniBatchSize: 2,
  saveEvery: 0,
  evalEvery: 0,
  logEvery: 1,
};

/** A loop over five samples that writes down what it is asked to do. */
async function runLoop(config: Partial<LoopConfig> = {}, stopAfter = Infinity) {
  const run = new MemoryRun("folder");
  run.stopAfter = stopAfter;
  const calls: string[] = [],
    rates: number[] = [];
  const body: LoopBody = {
    size: 5,
    shown: ["loss"],
    *batches(numEpochs) {
      for (let epoch = 0; epoch < numEpochs; epoch++) yield* [{ rows: [0, 1] }, { rows: [2, 3] }, { rows: [4] }];
    },
    update(rows, learningRate) {
      calls.push(`update ${rows.join(" ")}`);
      rates.push(learningRate);
      return { loss: calls.length };
    },
    evaluate() {
      calls.push("evaluate");
      return { evalLoss: calls.length };
    },
    async save(folder) {
      calls.push(`save ${folder}`);
    },
  };
  const loop = trainingLoop({ ...defaults, ...config }, run, body);
  return { run, calls, rates, loop };
}

describe("trainingLoop", () => {
  test("evaluates, goes through the data once, evaluates again and saves the model", async () => {
    const { run, calls, loop } = await runLoop();
    expect(await loop).toEqual({ before: { evalLoss: 1 }, after: { evalLoss: 5 }, steps: 3 });
    expect(calls).toEqual(["evaluate", "update 0 1", "update 2 3", "update 4", "evaluate", "save folder/model"]);
    expect(run.totalSteps).toBe(3); // ceil(5 / 2)
    expect(run.logged.map(({ step, metrics }) => [step, Object.keys(metrics)])).toEqual([
      [0, ["evalLoss"]],
      [1, ["loss", "learningRate"]],
      [2, ["loss", "learningRate"]],
      [3, ["loss", "learningRate"]],
      [3, ["evalLoss"]],
    ]);
  });

  test("takes maxSteps in place of epochs, repeating the data, and the schedule ends with it", async () => {
    const { calls, rates, loop } = await runLoop({ maxSteps: 4, epochs: 1 });
    expect((await loop).steps).toBe(4);
    expect(calls.slice(1, 5)).toEqual(["update 0 1", "update 2 3", "update 4", "update 0 1"]);
    assertClose(rates, [0.1, 0.075, 0.05, 0.025]);
  });

  test("warms up over a share of the steps, or over a number of them", async () => {
    // 6 steps in 2 epochs; half of them is 3: 1/4, 2/4, 3/4
    const { rates, loop } = await runLoop({ epochs: 2, warmupRatio: 0.5, schedule: "constant" });
    await loop;
    assertClose(rates, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]);
    const other = await runLoop({ epochs: 2, warmupRatio: 0.5, warmupSteps: 1, schedule: "constant" });
    await other.loop;
    assertClose(other.rates, [0.05, 0.1, 0.1, 0.1, 0.1, 0.1]);
  });

  test("saves and evaluates every n steps, and does not evaluate the last step twice", async () => {
    const { calls, loop } = await runLoop({ maxSteps: 4, saveEvery: 3, evalEvery: 2 });
    expect((await loop).after).toEqual({ evalLoss: 8 });
    expect(calls).toEqual([
      "evaluate",
      "update 0 1",
      "update 2 3",
      "evaluate",
      "update 4",
      "save folder/checkpoint-3",
      "update 0 1",
      "evaluate",
      "save folder/model",
    ]);
  });

  test("logs every n steps, and always what was evaluated", async () => {
    const { run, loop } = await runLoop({ maxSteps: 4, logEvery: 3, evalEvery: 2 });
    await loop;
    expect(run.logged.map(({ step }) => step)).toEqual([0, 2, 3, 4]);
  });

  test("after a request to stop finishes the step, saves it and throws Interrupted", async () => {
    const { calls, loop } = await runLoop({ maxSteps: 100 }, 3);
    const error = await rejection(() => loop);
    expect(error).toEqual({
      name: "Interrupted",
      code: "E_INTERRUPTED",
      message: "interrupted after step 2; the model is saved in folder/checkpoint-2",
    });
    await expect(loop).rejects.toBeInstanceOf(Interrupted);
    expect(calls).toEqual(["evaluate", "update 0 1", "update 2 3", "save folder/checkpoint-2"]);
  });
});
