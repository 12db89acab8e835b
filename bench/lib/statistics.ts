/** The middle value; of an even count, the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[Math.floor((sorted.length - 1) / 2)], sorted[Math.floor(sorted.length / 2)]];
  if (low === undefined || high === undefined) throw new RangeError("the median of no values");
  return (low + high) / 2;
}

/** Median of a[i] / b[i]. Runs made in turn are compared pair by pair, since the speed of a machine drifts. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) throw new RangeError(`pairs of ${a.length} and ${b.length} values`);
  return median(a.map((value, i) => value / (b[i] ?? Number.NaN)));
}

/** Seconds that `body` takes. */
export function secondsOf(body: () => void): number {
  const start = performance.now();
  body();
  return (performance.now() - start) / 1000;
}

/** Seconds of one call: calls are repeated until they take `leastSeconds` together, so that the clock's grain does not matter. */
export function secondsPerCall(body: () => void, leastSeconds = 0.1): number {
  for (let calls = 1; ; calls *= 2) {
    const seconds = secondsOf(() => { for (let i = 0; i < calls; i++) body(); });
    if (seconds >= leastSeconds) return seconds / calls;
  }
}
