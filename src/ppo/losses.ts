import type { Tensor } from "../tensor/tensor.ts";

/** exp(20) is 5e8: beyond it a ratio is a broken log-probability, and exp would soon be infinite. */
const LOG_RATIO_LIMIT = 20;

/** What the policy loss is computed from; nothing of it is written to. */
export interface PolicyLossInput {
  /** [batch, response] with gradient: log-probability of each response token under the actor being trained. */
  logprobs: Tensor;
  /** [batch, response] no gradient: the same tokens under the actor that generated them. */
  oldLogprobs: Tensor;
  /** [batch, response] no gradient. */
  advantages: Tensor;
  /** [batch, response] true on generated tokens up to and including the end token. */
  responseMask: Tensor;
  /** [batch, response] no gradient: factor of each token where another policy than the old one sampled it; left out: 1. */
  importanceWeights?: Tensor | undefined;
  /** Half-width of the trust region around ratio 1; 0.2 in the paper. */
  clipRange: number;
  /** Response tokens in the whole optimizer step: all micro-batches on all ranks. */
  totalTokens: number;
}

/** [] float32 each; all but `ratioMax` are to be summed over micro-batches and ranks. Only `loss` has a gradient. */
export interface PolicyLoss {
  loss: Tensor;
  /** Share of tokens on which the clip binds, that is, which give no gradient. */
  clipFraction: Tensor;
  /** Estimate of KL(old || new) in nats per token. */
  approxKl: Tensor;
  /** Largest |ratio - 1| of any response token; 0 on the first update of a rollout. */
  ratioMax: Tensor;
}

/**
 * Clipped surrogate loss of PPO (Schulman et al. 2017, arXiv:1707.06347, eq. 7), to be minimised:
 *
 *     ratio = exp(logprobs - oldLogprobs)
 *     loss  = -1/totalTokens * sum over response tokens of w * min(ratio * A, clip(ratio, 1 - clipRange, 1 + clipRange) * A)
 *
 * Dividing by the tokens of the whole step, not of this micro-batch, makes accumulation over micro-batches and ranks
 * equal to one large batch. DeepSpeed-Chat divides per micro-batch, so its gradient depends on the split.
 * `approxKl` is the low-variance estimator `ratio - 1 - log ratio` (Schulman 2020, joschu.net/blog/kl-approx.html).
 */
export function policyLoss(input: PolicyLossInput): PolicyLoss {
  const { clipRange, totalTokens } = input;
  const mask = input.responseMask.to("bool");
  const advantages = input.advantages.to("float32").detach().where(mask, 0);
  // Masked before exp: backward through exp(NaN) would be 0 * NaN = NaN.
  const difference = input.logprobs.to("float32").sub(input.oldLogprobs.to("float32").detach());
  const logRatio = difference.where(mask, 0).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
  const ratio = logRatio.exp();
  const unclipped = ratio.mul(advantages);
  const clipped = ratio.clamp(1 - clipRange, 1 + clipRange).mul(advantages);
  const perToken = (x: Tensor): Tensor => x.maskedSum(mask).div(totalTokens);
  const kl = ratio.sub(1).sub(logRatio).detach();
  const surrogate = unclipped.minimum(clipped);
  const weights = input.importanceWeights?.detach().where(mask, 0);
  return {
    loss: perToken(weights ? surrogate.mul(weights) : surrogate).neg(),
    clipFraction: perToken(clipped.less(unclipped).to("float32")),
    approxKl: perToken(kl),
    ratioMax: ratio.detach().sub(1).abs().max(),
  };
}

/** What the value loss is computed from; nothing of it is written to. */
export interface ValueLossInput {
  /** [batch, response] with gradient: the value before each response token from the critic being trained. */
  values: Tensor;
  /** [batch, response] no gradient: the critic's values at the time of the rollout. */
  oldValues: Tensor;
  /** [batch, response] no gradient. */
  returns: Tensor;
  /** [batch, response] true on generated tokens up to and including the end token. */
  responseMask: Tensor;
  /** How far a value may move from `oldValues` before its loss is clipped; Infinity for no clipping. */
  valueClipRange: number;
  /** Response tokens in the whole optimizer step: all micro-batches on all ranks. */
  totalTokens: number;
}

/** [] float32 each, to be summed over micro-batches and ranks. Only `loss` has a gradient. */
export interface ValueLoss {
  loss: Tensor;
  /** Share of tokens whose clipped error is the larger one, that is, which give no gradient. */
  clipFraction: Tensor;
}

/**
 * Clipped squared error of the critic, to be minimised ("The 37 implementation details of PPO", 9):
 *
 *     clipped = clip(values, oldValues - valueClipRange, oldValues + valueClipRange)
 *     loss    = 0.5/totalTokens * sum over response tokens of max((values - returns)^2, (clipped - returns)^2)
 */
export function valueLoss(input: ValueLossInput): ValueLoss {
  const { valueClipRange, totalTokens } = input;
  const mask = input.responseMask.to("bool");
  // Masked before anything is multiplied, so that a NaN reaches neither the loss nor the gradient.
  const values = input.values.to("float32").where(mask, 0);
  const oldValues = input.oldValues.to("float32").detach().where(mask, 0);
  const returns = input.returns.to("float32").detach().where(mask, 0);
  const squaredError = (x: Tensor): Tensor => x.sub(returns).pow(2);
  const unclipped = squaredError(values);
  const clipped = squaredError(oldValues.add(values.sub(oldValues).clamp(-valueClipRange, valueClipRange)));
  const perToken = (x: Tensor): Tensor => x.maskedSum(mask).div(totalTokens);
  return {
    loss: perToken(unclipped.maximum(clipped)).mul(0.5),
    clipFraction: perToken(clipped.greater(unclipped).to("float32")),
  };
}
