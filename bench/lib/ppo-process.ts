// One measurement of PPO in a process of its own, started by `measurePpo`.
import { readFileSync } from "node:fs";
import { PpoTrainer, RlhfEngine } from "../../src/index.ts";
import { measuringProcess } from "./measuring-process.ts";
import type { OurPpoTimes, PpoIteration, PpoWorkload } from "./ppo-run.ts";
import { peakResidentBytes } from "./resident-memory.ts";

async function measure(workload: PpoWorkload, baseBytes: number): Promise<OurPpoTimes> {
  const { model, rewardModel, dtype, newTokens, untilEnd, microBatchTokens } = workload;
  const batches = JSON.parse(readFileSync(workload.prompts, "utf8")) as number[][][];
  const rlhf = await RlhfEngine.load({ actor: model, rewardModel, dtype, gradientCheckpointing: workload.checkpointing });
  const batch = batches[0]?.length ?? 0;
  const trainer = new PpoTrainer(rlhf, {
    rolloutBatchSize: batch, miniBatchSize: batch, ppoEpochs: 1, microBatchTokens,
    maxNewTokens: newTokens, minNewTokens: untilEnd ? 0 : newTokens,
  });
  const iterations: PpoIteration[] = [];
  for (const prompts of batches) {
    iterations.push(await iterate(trainer, prompts));
    await new Promise(setImmediate); // as between the iterations of a run
  }
  const peak = peakResidentBytes();
  const short = iterations.flatMap((iteration) => iteration.responseLengths).find((length) => !untilEnd && length !== newTokens);
  if (short !== undefined) throw new Error(`an answer has ${short} tokens, where ${newTokens} were asked for`);
  return { iterations: iterations.slice(1), baseBytes, peakResidentBytes: peak };
}

/** As in DeepSpeed-Chat's loop the advantages belong to training, and with them all that no clock of the trainer covers. */
async function iterate(trainer: PpoTrainer, prompts: readonly (readonly number[])[]): Promise<PpoIteration> {
  const start = performance.now();
  const experience = await trainer.generateExperience(prompts);
  const { metrics } = trainer.trainRlhf(experience);
  const total = (performance.now() - start) / 1000;
  const seconds = (name: string): number => {
    const value = metrics[name];
    if (value === undefined) throw new Error(`the trainer reports no ${name}`);
    return value;
  };
  const switchSeconds = seconds("switchToGenerateSeconds") + seconds("switchToTrainSeconds");
  const scoreSeconds = seconds("scoringSeconds"), rolloutSeconds = seconds("rolloutSeconds");
  return {
    generateSeconds: rolloutSeconds - switchSeconds, scoreSeconds, switchSeconds, trainSeconds: total - rolloutSeconds - scoreSeconds,
    responseLengths: experience.responses.map((response) => response.length),
  };
}

await measuringProcess(measure);
