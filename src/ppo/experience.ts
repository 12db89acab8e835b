import { tensor } from "../tensor/create.ts";
import { noGrad } from "../tensor/autograd.ts";
import { estimateAdvantages } from "./advantages.ts";
import type { Parity } from "./parity.ts";
import type { Experience, Scored } from "./records.ts";
import { missingEosPenalty, tokenRewards } from "./token-rewards.ts";
import { scaleToUnitVariance } from "./whiten.ts";

/** How scores become rewards and advantages. */
export interface ExperienceOptions {
  klCoef: number;
  rewardClip: number;
  missingEosPenalty: number;
  whitenRewards: boolean;
  whitenAdvantages: boolean;
  gamma: number;
  gaeLambda: number;
  parity: Parity;
}

/** Rewards, advantages and returns of a scored rollout: pure arithmetic on its tensors. */
export function shapeExperience(scored: Scored, options: ExperienceOptions): Experience {
  return noGrad(() => {
    const { oldLogprobs, referenceLogprobs, responseMask, values } = scored;
    const { klCoef, rewardClip, gamma, gaeLambda, parity } = options;
    // Clipped before the penalty, so that a missing end costs the same whatever the score.
    const finished = tensor(scored.finishReasons.map((reason) => reason === "eos"), { dtype: "bool" });
    const scores = missingEosPenalty(scored.scores.clamp(-rewardClip, rewardClip), finished, options.missingEosPenalty);
    const plain = tokenRewards({ logprobs: oldLogprobs, referenceLogprobs, scores, responseMask, klCoef, rewardClip: Infinity, parity });
    const rewards = options.whitenRewards ? scaleToUnitVariance(plain, responseMask) : plain;
    const whiten = options.whitenAdvantages;
    return { ...scored, rewards, ...estimateAdvantages({ rewards, values, responseMask, gamma, gaeLambda, whiten, parity }) };
  });
}
