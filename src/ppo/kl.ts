import type { Tensor } from "../tensor/tensor.ts";

/** What the distance to the reference is measured on. */
export interface KlInput {
  /** [batch, response] log-probability of each response token under the actor that generated it. */
  logprobs: Tensor;
  /** [batch, response] the same tokens under the reference. */
  referenceLogprobs: Tensor;
  /** [batch, response] true on generated tokens up to and including the end token. */
  responseMask: Tensor;
}

/** Estimates of KL(actor || reference), [] float32 each, without gradient. */
export interface KlStatistics {
  /** k1 summed over a response, mean over sequences, in nats per sequence. What `AdaptiveKl` steers. */
  perSequence: Tensor;
  /** k1, mean over response tokens, in nats per token; single estimates may be negative. */
  perToken: Tensor;
  /** k3, mean over response tokens, in nats per token; never negative, of lower variance. */
  k3: Tensor;
  /** Share of response tokens whose k1 is negative, in [0, 1]; above 0.5 for long says that rollouts are not the actor's samples. */
  negativeFraction: Tensor;
}

/**
 * Statistics of the actor's distance from the reference (Schulman 2020, joschu.net/blog/kl-approx.html):
 *
 *     k1 = logprobs - referenceLogprobs
 *     k3 = exp(-k1) - 1 + k1
 *
 * Example: logprobs [-1, -2], referenceLogprobs [-1.5, -1]: k1 is [0.5, -1], perSequence -0.5, perToken -0.25.
 */
export function klStatistics({ logprobs, referenceLogprobs, responseMask }: KlInput): KlStatistics {
  const mask = responseMask.to("bool");
  const k1 = logprobs.to("float32").sub(referenceLogprobs.to("float32")).detach().where(mask, 0);
  const tokens = mask.sum();
  // expm1 would be exact near 0, where both terms cancel; the error of float32, 1e-7, is far below what is logged.
  const k3 = k1.neg().exp().sub(1).add(k1);
  return {
    perSequence: k1.sum([1]).mean(),
    perToken: k1.sum().div(tokens),
    k3: k3.sum().div(tokens),
    negativeFraction: k1.less(0).sum().div(tokens),
  };
}

/** Settings of `AdaptiveKl`. */
export interface AdaptiveKlOptions {
  /** Weight of the KL penalty to begin with. */
  klCoef: number;
  /** KL per sequence to hold, in nats. */
  target: number;
  /** Sequences over which the weight may change by the factor e^0.2 at most. */
  horizon: number;
}

/**
 * Controller of the KL penalty's weight (Ziegler et al. 2019, arXiv:1909.08593, section 2.2):
 *
 *     klCoef *= 1 + clip(kl / target - 1, -0.2, 0.2) * sequences / horizon
 */
export class AdaptiveKl {
  readonly #target: number;
  readonly #horizon: number;
  #klCoef: number;

  constructor({ klCoef, target, horizon }: AdaptiveKlOptions) {
    this.#klCoef = klCoef;
    this.#target = target;
    this.#horizon = horizon;
  }

  /** The weight now; save it in checkpoints and give it back to the constructor on resume. */
  get klCoef(): number { return this.#klCoef; }

  /** Moves the weight after a rollout of `sequences` whose mean KL per sequence was `kl` nats. */
  update(kl: number, sequences: number): void {
    const error = Math.min(Math.max(kl / this.#target - 1, -0.2), 0.2);
    this.#klCoef *= 1 + (error * sequences) / this.#horizon;
  }
}
