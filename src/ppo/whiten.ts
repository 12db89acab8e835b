import type { Tensor } from "../tensor/tensor.ts";

/** Keeps the scale finite where all values are equal. */
const EPSILON = 1e-8;

/**
 * Shifts and scales `x` to mean 0 and variance 1 over the places where `mask` is true; 0 elsewhere. The variance is the
 * unbiased one, computed in float32 over everything given: give the whole rollout, not a micro-batch.
 *
 * Example: [[1, 3, 9]] under [[true, true, false]] has mean 2 and variance 2, so it becomes [[-0.707, 0.707, 0]].
 *
 * @param x    [batch, response]
 * @param mask [batch, response], true (or not zero) where a value counts
 * @throws {RangeError} when the mask selects fewer than two values, which have no variance
 */
export function whiten(x: Tensor, mask: Tensor): Tensor {
  const counts = mask.to("bool");
  const { mean, variance } = maskedMoments(x, counts);
  return x.to("float32").sub(mean).mul(variance.add(EPSILON).rsqrt()).where(counts, 0);
}

/**
 * Scales `x` to variance 1 over the places where `mask` is true, and the mean with it: unlike `whiten` it keeps every
 * sign, so a reward stays a reward. 0 where `mask` is false. (TRL's and OpenAI's `shift_mean=False` instead keeps the mean as it was.)
 *
 * @param x    [batch, response]
 * @param mask [batch, response], true (or not zero) where a value counts
 * @throws {RangeError} when the mask selects fewer than two values, which have no variance
 */
export function scaleToUnitVariance(x: Tensor, mask: Tensor): Tensor {
  const counts = mask.to("bool");
  const { variance } = maskedMoments(x, counts);
  return x.to("float32").mul(variance.add(EPSILON).rsqrt()).where(counts, 0);
}

/** What `explainedVariance` compares. */
export interface ExplainedVarianceInput {
  /** [batch, response] the critic's values. */
  values: Tensor;
  /** [batch, response] what they should have been. */
  returns: Tensor;
  /** [batch, response] true on response tokens. */
  responseMask: Tensor;
}

/**
 * Share of the variance of the returns that the values explain, [] float32: `1 - Var(returns - values) / Var(returns)`
 * over response tokens. 1 is a perfect critic, 0 no better than a constant, below 0 worse; not finite when all returns are equal.
 *
 * @throws {RangeError} when there are fewer than two response tokens
 */
export function explainedVariance({ values, returns, responseMask }: ExplainedVarianceInput): Tensor {
  const counts = responseMask.to("bool");
  const left = maskedMoments(returns.sub(values), counts).variance;
  return left.div(maskedMoments(returns, counts).variance).neg().add(1).detach();
}

/** Mean and unbiased variance over true places, [] float32 each. */
function maskedMoments(x: Tensor, counts: Tensor): { mean: Tensor; variance: Tensor } {
  const count = counts.sum().item();
  if (count < 2) throw new RangeError(`cannot take a variance: the mask selects ${count} values, expected at least 2`);
  const values = x.to("float32");
  const mean = values.maskedSum(counts).div(count);
  const deviation = values.sub(mean);
  return { mean, variance: deviation.mul(deviation).maskedSum(counts).div(count - 1) };
}
