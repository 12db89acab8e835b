import type { Tensor } from "../tensor/tensor.ts";
import { throughSlotAfterLast, type Parity } from "./parity.ts";

/** What the rewards of a rollout are made of; nothing of it is written to. */
export interface TokenRewardsInput {
  /** [batch, response] no gradient: log-probability of each response token under the actor that generated it. */
  logprobs: Tensor;
  /** [batch, response] the same tokens under the reference. */
  referenceLogprobs: Tensor;
  /** [batch] the reward model's score of each sequence. */
  scores: Tensor;
  /** [batch, response] true on generated tokens up to and including the end token. */
  responseMask: Tensor;
  /** Weight of the KL penalty, per nat. */
  klCoef: number;
  /** Scores are clipped to plus and minus this; Infinity for no clipping. */
  rewardClip: number;
  /** "deepspeed-chat" puts the score one slot later, as the original does. */
  parity?: Parity | undefined;
}

/**
 * Reward of each response token, [batch, response] float32 without gradient: a KL penalty on every token (the k1
 * estimator, InstructGPT's, arXiv:2203.02155 section 3.5) and the clipped score on the last one. 0 behind the response.
 *
 *     rewards = -klCoef * (logprobs - referenceLogprobs)
 *     rewards[last response token] += clip(score, -rewardClip, rewardClip)
 *
 * Example: klCoef 0.1, logprobs [-1, -2], referenceLogprobs [-1.5, -1], score 3 give [-0.05, 0.1 + 3].
 *
 * With parity the score stands in the slot that follows the last response token where there is one (with pad = end
 * token that slot is the end token, which the original never trains), and that slot has its KL penalty too.
 */
export function tokenRewards(input: TokenRewardsInput): Tensor {
  const { klCoef, rewardClip, parity } = input;
  const scores = input.scores.to("float32").detach();
  const responseMask = input.responseMask.to("bool");
  const counts = parity === "deepspeed-chat" ? throughSlotAfterLast(responseMask) : responseMask;
  const kl = input.logprobs.to("float32").sub(input.referenceLogprobs.to("float32")).where(counts, 0);
  // reshape: scores of [batch, 1] must not broadcast to [batch, batch, response].
  const score = scores.clamp(-rewardClip, rewardClip).reshape([-1, 1]).expand(counts.shape);
  return kl.detach().mul(-klCoef).add(score.where(lastOf(counts), 0));
}

/** True at the last true place of each row, [batch, seq] bool; nowhere in a row that has none. */
function lastOf(mask: Tensor): Tensor {
  const trueFromHere = mask.flip(1).cumsum(1).flip(1);
  return trueFromHere.equal(1).logicalAnd(mask);
}

/**
 * Scores with `penalty` taken off where the response was cut instead of ended by the model, [batch] float32. Without it
 * answers grow until they are cut.
 *
 * @param scores   [batch]
 * @param finished [batch], true (or not zero) where the response ended with its end token
 */
export function missingEosPenalty(scores: Tensor, finished: Tensor, penalty: number): Tensor {
  return scores.to("float32").sub(finished.to("bool").logicalNot().to("float32").mul(penalty));
}
