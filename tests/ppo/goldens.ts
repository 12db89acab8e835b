// The worked example of several published implementations, run on the same tensors (torch 2.15): DeepSpeed-Chat,
// OpenRLHF, verl. A test that names one of them has its results from running that project's own functions on these inputs.
import { readFileSync } from "node:fs";

export const peers = {
  responseMask: [[true, true, true, false], [true, true, true, true]],
  logprobs: [[-1.2, -0.7, -2.1, 0], [-0.3, -1.6, -0.9, -0.5]],
  newLogprobs: [[-1, -0.9, -1.6, 0], [-0.35, -1.1, -1.4, -0.45]],
  referenceLogprobs: [[-1.3, -0.6, -2.4, 0], [-0.2, -1.7, -0.7, -0.9]],
  values: [[0.3, 0.5, 0.2, 0], [-0.1, 0.4, 0.6, 0.7]],
  newValues: [[0.8, 0.45, 0.1, 0], [-0.5, 0.35, 0.9, 0.75]],
  scores: [1.2, -2],
};

/** One case of `tests/fixtures/original.json`: what DeepSpeed-Chat's own functions give on random tensors. */
export interface OriginalPpoCase {
  klCoef: number;
  gamma: number;
  gaeLambda: number;
  rewardClip: number;
  clipRange: number;
  valueClipRange: number;
  logprobs: number[][];
  referenceLogprobs: number[][];
  values: number[][];
  scores: number[];
  responseMask: boolean[][];
  newLogprobs: number[][];
  newValues: number[][];
  rewards: number[][];
  advantages: number[][];
  returns: number[][];
  policyLoss: number;
  valueLoss: number;
}

export interface OriginalRewardCase {
  padId: number;
  numPaddingAtBeginning: number;
  chosen: number[][];
  rejected: number[][];
  chosenRewards: number[][];
  rejectedRewards: number[][];
  loss: number;
  chosenScores: number[];
  rejectedScores: number[];
}

/** All cases of the file. */
export const original = JSON.parse(readFileSync(new URL("../fixtures/original.json", import.meta.url), "utf8")) as {
  ppo: OriginalPpoCase[];
  rewardModel: OriginalRewardCase[];
};
