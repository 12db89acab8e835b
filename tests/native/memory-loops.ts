// Run as a process of its own by memory.test.ts: `node --expose-gc memory-loops.ts NAME` prints one line of JSON (Measurements).
// Each loop is synchronous, as training is, so only finalizers that run inside it can free anything.
import { noGrad, segment } from "../../src/tensor/autograd.ts";
import { Generator, ones, randn, zeros } from "../../src/tensor/create.ts";
import { tensorMemory } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

export interface Measurements {
  /** Most live tensors seen. */
  peakLive: number;
  /** Largest resident memory seen, MB. */
  peakMegabytes: number;
  /** Live tensors and resident MB after each eighth of the loop. */
  eighths: { live: number; megabytes: number }[];
  /** Live tensors after each step that was followed by a full collection; empty where none was asked for. */
  liveAfterCollection: number[];
}

interface Loop {
  steps: number;
  /** Steps between two measurements. */
  every: number;
  /** Whether each step is followed by a full collection, so that what stays alive is what is really held. */
  collect?: boolean;
  step: () => void;
}

function measure({ steps, every, collect = false, step }: Loop): Measurements {
  const result: Measurements = { peakLive: 0, peakMegabytes: 0, eighths: [], liveAfterCollection: [] };
  const megabytes = (): number => process.memoryUsage.rss() / 1e6;
  for (let i = 1; i <= steps; i++) {
    step();
    if (i % every === 0) {
      result.peakLive = Math.max(result.peakLive, tensorMemory().liveTensors);
      result.peakMegabytes = Math.max(result.peakMegabytes, megabytes());
    }
    if (i % Math.floor(steps / 8) === 0) result.eighths.push({ live: tensorMemory().liveTensors, megabytes: megabytes() });
    if (collect) {
      globalThis.gc?.();
      result.liveAfterCollection.push(tensorMemory().liveTensors);
    }
  }
  return result;
}

/** A step whose result has `bytes` bytes and is dropped. */
function resultOf(bytes: number): () => void {
  const x = ones([bytes / 4]);
  return () => { x.add(1); };
}

/** Forward and backward of three layers, about 4 MB of activations; gradients add up in preset buffers. */
function mlpStep(): () => void {
  const generator = new Generator(1);
  const weights = [[64, 256], [256, 256], [256, 64]].map((shape) => {
    const weight = randn(shape, generator).mul(0.1).requiresGrad_();
    weight.setGrad(zeros(shape));
    return weight;
  });
  const x = randn([512, 64], generator);
  return () => {
    let h: Tensor = x;
    for (const weight of weights) h = h.matmul(weight).sigmoid();
    h.mul(h).mean().backward();
    for (const weight of weights) weight.grad?.zero_();
  };
}

/** One layer as a segment, whose backward is a matrix product in JavaScript. */
function segmentStep(): () => void {
  const weight = ones([64, 64]);
  const leaf = ones([512, 64]).requiresGrad_();
  leaf.setGrad(zeros([512, 64]));
  return () => {
    const y = noGrad(() => leaf.matmul(weight));
    const [out] = segment([leaf], [y], ([gradient]) => [gradient?.matmul(weight)]);
    out?.sum().backward();
  };
}

/** An activation that its own derivative needs: the graph holds its memory too, and still the handle must count it. */
function savedOutputStep(): () => void {
  const leaf = ones([2 ** 20]).requiresGrad_();
  leaf.setGrad(zeros([2 ** 20]));
  return () => { leaf.sigmoid().sum().backward(); };
}

/** A segment whose output is dropped without backward. */
function unusedSegmentStep(): () => void {
  const leaf = ones([512, 64]).requiresGrad_();
  return () => {
    const y = noGrad(() => leaf.mul(2));
    segment([leaf], [y], ([gradient]) => [gradient?.mul(y)]);
  };
}

const loops: Record<string, () => Loop> = {
  mebibytes: () => ({ steps: 3000, every: 1, step: resultOf(2 ** 20) }),
  large: () => ({ steps: 300, every: 1, step: resultOf(64 * 2 ** 20) }),
  tiny: () => ({ steps: 1_000_000, every: 1000, step: resultOf(16) }),
  mlp: () => ({ steps: 300, every: 1, step: mlpStep() }),
  mlpCollected: () => ({ steps: 20, every: 1, collect: true, step: mlpStep() }),
  savedOutputs: () => ({ steps: 200, every: 1, step: savedOutputStep() }),
  unusedSegmentCollected: () => ({ steps: 300, every: 1, collect: true, step: unusedSegmentStep() }),
  segmentCollected: () => ({ steps: 300, every: 1, collect: true, step: segmentStep() }),
};

const loop = loops[process.argv[2] ?? ""];
if (loop === undefined) throw new Error(`expected one of ${Object.keys(loops).join(", ")}`);
console.log(JSON.stringify(measure(loop())));
