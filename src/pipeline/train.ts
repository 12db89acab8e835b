import type { RunStep, StepDuration } from "../config/step.ts";
import { ppoSettings } from "../ppo/config.ts";
import { type PpoSummary, trainPpo } from "../ppo/train.ts";
import { rewardSettings } from "../reward/config.ts";
import { type RewardSummary, trainReward } from "../reward/train.ts";
import { sftSettings } from "../sft/config.ts";
import { type SftSummary, trainSft } from "../sft/train.ts";
import { collectGarbage } from "../tensor/system.ts";
import type { TrainConfig } from "./config.ts";

/** Results of the steps that were chosen. */
export interface PipelineSummary {
  readonly sft?: SftSummary & StepDuration;
  readonly reward?: RewardSummary & StepDuration;
  readonly ppo?: PpoSummary & StepDuration;
}

/** The InstructGPT pipeline: SFT, reward model, PPO, each on what the one before left on disk. */
export async function trainAll({ sft, reward, ppo }: TrainConfig, runStep: RunStep): Promise<PipelineSummary> {
  const afterSft: PipelineSummary = { ...(sft && { sft: await runStep(sftSettings, sft, trainSft) }) };
  collectGarbage(); // a step that has ended needs its models no more
  const afterReward: PipelineSummary = { ...afterSft, ...(reward && { reward: await runStep(rewardSettings, reward, trainReward) }) };
  collectGarbage();
  return { ...afterReward, ...(ppo && { ppo: await runStep(ppoSettings, ppo, trainPpo) }) };
}
