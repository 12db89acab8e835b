import { TrainingError } from "../errors.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Scored } from "./records.ts";

/** Nats per token between the sampling and the trained policy from which on answers are no longer the actor's. */
const MAX_SAMPLING_KL = 0.1;

/** How far what sampled a rollout is from the actor's training forward, over its response tokens. */
export interface SamplingGap {
  /** Mean |oldLogprobs - samplingLogprobs|, nats. */
  samplingGap: number;
  /** Estimate of KL(sampling || old), nats per token. */
  samplingKl: number;
}

/**
 * The gap between a rollout's sampling and the actor, by the estimator `ratio - 1 - log ratio` (joschu.net/blog/kl-approx.html).
 * Rounding in bfloat16 makes some hundredths of a nat, rollouts with int8 weights more.
 *
 * @throws {TrainingError} when the KL exceeds 0.1 nats per token
 */
export function samplingGap({ oldLogprobs, samplingLogprobs, responseMask }: Scored): SamplingGap {
  const { gap, kl } = noGrad(() => {
    const difference = oldLogprobs.sub(samplingLogprobs).where(responseMask, 0);
    const tokens = responseMask.sum();
    return {
      gap: difference.abs().sum().div(tokens).item(),
      kl: difference.exp().sub(1).sub(difference).sum().div(tokens).item(),
    };
  });
  if (!(kl <= MAX_SAMPLING_KL)) {
    throw new TrainingError(
      `PPO: the answers were sampled by another policy than the one that trains: KL ${kl.toPrecision(3)} nats per token, at most ` +
        `${MAX_SAMPLING_KL} is allowed; with --rollout-weights int8 use "same" instead, otherwise please report this`,
    );
  }
  return { samplingGap: gap, samplingKl: kl };
}

/**
 * Truncated importance weights (Ionides 2008, doi:10.1198/106186008X320456): min(old / sampling probability, cap), which correct the
 * policy's gradient for answers that other weights have sampled. [batch, response] float32, without gradient.
 */
export function importanceWeights(
  { oldLogprobs, samplingLogprobs }: Pick<Scored, "oldLogprobs" | "samplingLogprobs">, cap: number,
): Tensor {
  return noGrad(() => oldLogprobs.sub(samplingLogprobs).exp().clamp(0, cap));
}
