/** Mean and unbiased variance of plain numbers. */
export interface Moments {
  readonly mean: number;
  readonly variance: number;
}

/**
 * Mean and unbiased variance of `values`: the mean is NaN for none, the variance 0 for one.
 *
 *     moments([1, 3, 8]) // mean 4, variance (9 + 1 + 16) / 2 = 13
 */
export function moments(values: readonly number[]): Moments {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, variance: squares / Math.max(1, values.length - 1) };
}
