// One measurement of generation in a process of its own, started by `measureGeneration`.
import { CausalLM, HybridEngine } from "../../src/index.ts";
import { collectGarbage } from "../../src/tensor/system.ts";
import type { GenerationTimes, GenerationWorkload } from "./generation-run.ts";
import { secondsInAddon } from "./addon-time.ts";
import { measuringProcess } from "./measuring-process.ts";
import { randomPrompts } from "./prompts.ts";
import { peakResidentBytes, resetPeak } from "./resident-memory.ts";
import { secondsOf } from "./statistics.ts";

async function measure(workload: GenerationWorkload, baseBytes: number): Promise<GenerationTimes> {
  const { batch, promptLength, newTokens, repeats, dtype } = workload;
  const model = await CausalLM.load(workload.model, { dtype });
  // The pages of the mapped checkpoint count as resident until the mapping is collected.
  model.releaseSource();
  collectGarbage();
  resetPeak();
  const engine = new HybridEngine(model, { numSlots: batch, weights: workload.weights ?? "same" });
  const prompts = randomPrompts(batch, promptLength, model.spec.vocabSize);
  const generate = (maxNewTokens: number, seed = 0): void => {
    const { responses } = engine.generate(prompts, { maxNewTokens, temperature: 1, topK: 0, topP: 1, eosTokenId: null, seed });
    const short = responses.find((response) => response.length !== maxNewTokens);
    if (short) throw new Error(`an answer has ${short.length} tokens, where ${maxNewTokens} were asked for`);
  };
  generate(Math.min(4, newTokens));
  const firstSeconds: number[] = [], allSeconds: number[] = [];
  for (let i = 0; i < repeats; i++) {
    firstSeconds.push(secondsOf(() => generate(1, i)));
    if (newTokens > 1) allSeconds.push(secondsOf(() => generate(newTokens, i)));
  }
  const peakBytes = peakResidentBytes() - baseBytes;
  return { firstSeconds, allSeconds, peakBytes, javascriptShare: workload.timesAddon ? javascriptShare(generate, newTokens) : Number.NaN };
}

function javascriptShare(generate: (maxNewTokens: number) => void, newTokens: number): number {
  const first = secondsInAddon(() => generate(1));
  const all = secondsInAddon(() => generate(newTokens));
  return 1 - (all.inAddon - first.inAddon) / (all.total - first.total);
}

await measuringProcess(measure);
