// One measurement of training in a process of its own, started by `measureTraining`.
import { microBatches } from "../../src/engine/micro-batches.ts";
import { CausalLM, TrainEngine } from "../../src/index.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { secondsInAddon } from "./addon-time.ts";
import { secondsInCollections } from "./collection-time.ts";
import { measuringProcess } from "./measuring-process.ts";
import { randomPrompts } from "./prompts.ts";
import { peakResidentBytes } from "./resident-memory.ts";
import type { StepSeconds, TrainTimes, TrainWorkload } from "./train-run.ts";

async function measure(workload: TrainWorkload, baseBytes: number): Promise<TrainTimes> {
  const { batch, length, microBatchTokens, dtype, repeats, loraRank } = workload;
  const model = await CausalLM.load(workload.model, { dtype });
  if (loraRank > 0) model.addLora({ rank: loraRank });
  const engine = new TrainEngine(model, {
    beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0, gradientClip: 1, gradientCheckpointing: workload.checkpointing,
  });
  const rows = randomPrompts(batch, length, model.spec.vocabSize);
  const parts = microBatches(rows, (row) => row.length, microBatchTokens);
  const step = (): StepSeconds => {
    let forward = 0, backward = 0, start = performance.now();
    const lap = (): number => {
      const before = start;
      start = performance.now();
      return (start - before) / 1000;
    };
    for (const part of parts) {
      tidy(() => { // as the trainers of all steps do
        const loss = model.tokenLogprobs(part).logprobs.sum().div(-batch * (length - 1));
        forward += lap();
        engine.backward(loss);
      });
      backward += lap();
    }
    engine.step(1e-6);
    return { forwardSeconds: forward, backwardSeconds: backward, optimizerSeconds: lap() };
  };
  step();
  const steps: StepSeconds[] = [];
  const { total, collecting } = await secondsInCollections(async () => {
    for (let i = 0; i < repeats; i++) {
      steps.push(step());
      await new Promise(setImmediate); // as between the steps of a run
    }
  });
  const peak = peakResidentBytes();
  const addon = secondsInAddon(step);
  return {
    steps, javascriptShare: 1 - addon.inAddon / addon.total, gcShare: collecting / total, baseBytes, peakResidentBytes: peak,
  };
}

await measuringProcess(measure);
