import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../../src/errors.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { measureInProcess, type ProcessSettings } from "./measuring-process.ts";

/** What one process does: an iteration of PPO for each batch of prompts, the first of which is a warm-up. */
export interface PpoWorkload extends ProcessSettings {
  /** Actor and reference. */
  model: string;
  /** Reward model and critic. */
  rewardModel: string;
  /** JSON: token ids by iteration and prompt. */
  prompts: string;
  /** Tokens of the longest prompt. */
  promptLength: number;
  /** Tokens of every answer, or of the longest. */
  newTokens: number;
  /** Whether an answer ends where the model ends it. */
  untilEnd: boolean;
  microBatchTokens: number;
  checkpointing: boolean;
}

/** Seconds of one iteration by stage, and what came of it. */
export interface PpoIteration {
  generateSeconds: number;
  /** Forwards of reference, critic and reward model, and of the actor where it needs one. */
  scoreSeconds: number;
  /** Advantages, and forward, backward and AdamW of actor and critic. */
  trainSeconds: number;
  /** Between training and generation, both ways. */
  switchSeconds: number;
  /** Tokens of each answer. */
  responseLengths: number[];
}

/** What a process of ours or of a peer measured. */
export interface PpoTimes {
  /** All but the warm-up. */
  iterations: PpoIteration[];
  /** At most since the process started. */
  peakResidentBytes: number;
}

/** Ours says also what was resident before the models were loaded. */
export interface OurPpoTimes extends PpoTimes {
  baseBytes: number;
}

/** The stages in their order, as columns and in pictures. */
export const stages = ["generate", "score", "train", "switch"] as const;

/** One of them. */
export type Stage = (typeof stages)[number];

/** Seconds of a stage of an iteration. */
export function secondsOfStage(iteration: PpoIteration, stage: Stage): number {
  return iteration[`${stage}Seconds`];
}

/** Seconds of a whole iteration. */
export function secondsOfIteration(iteration: PpoIteration): number {
  return stages.reduce((sum, stage) => sum + secondsOfStage(iteration, stage), 0);
}

/**
 * Measures in a process of its own.
 *
 * @throws {ConfigError} what the process says about the models
 */
export function measurePpo(workload: PpoWorkload): Promise<OurPpoTimes> {
  return measureInProcess("ppo-process.ts", workload);
}

/** @throws {ConfigError} when a sequence does not fit into one forward */
export function checkPpoLengths(
  { promptLength, newTokens, microBatchTokens }: Pick<PpoWorkload, "promptLength" | "newTokens" | "microBatchTokens">,
): void {
  if (microBatchTokens >= promptLength + newTokens) return;
  throw new ConfigError(
    `--micro-batch-tokens: expected at least --prompt-length + --new-tokens (${promptLength + newTokens}), got ${microBatchTokens}; ` +
      "a sequence must fit into one forward",
  );
}

/** Writes a reward model into `folder`: the model's transformer with a random head, so that all four models of PPO have one size. */
export async function writeRewardModel(model: string, dtype: "float32" | "bfloat16", folder: string): Promise<string> {
  const rewardModel = join(folder, "reward-model");
  const { padTokenId } = await Tokenizer.load(model);
  const untrained = await RewardModel.withNewHead(model, { dtype, head: { seed: 1 } });
  await untrained.save(rewardModel, { padTokenId });
  untrained.releaseSource();
  return rewardModel;
}

/** Writes batches of prompts for the processes that measure. */
export function writePrompts(batches: readonly (readonly (readonly number[])[])[], file: string): string {
  writeFileSync(file, JSON.stringify(batches));
  return file;
}
