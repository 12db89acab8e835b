/**
 * Seconds and tokens of the stages of a training step:
 *
 *     const stop = stopwatch.start("rollout");
 *     ...
 *     stop(tokens);
 *     stopwatch.metrics(); // { rolloutSeconds: 2.5, rolloutTokensPerSecond: 410 }
 */
export class Stopwatch {
  readonly #stages = new Map<string, { seconds: number; tokens: number }>();
  readonly #now: () => number;

  /** @param now the time in milliseconds */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Starts a stage; the function returned ends it and adds its time and tokens to those the stage already has. */
  start(stage: string): (tokens?: number) => void {
    const begin = this.#now();
    return (tokens = 0) => {
      const before = this.#stages.get(stage) ?? { seconds: 0, tokens: 0 };
      this.#stages.set(stage, { seconds: before.seconds + (this.#now() - begin) / 1000, tokens: before.tokens + tokens });
    };
  }

  /** `<stage>Seconds` of each stage, and `<stage>TokensPerSecond` of those that counted tokens. */
  metrics(): Record<string, number> {
    const result: Record<string, number> = {};
    for (const [stage, { seconds, tokens }] of this.#stages) {
      result[`${stage}Seconds`] = seconds;
      if (tokens > 0 && seconds > 0) result[`${stage}TokensPerSecond`] = tokens / seconds;
    }
    return result;
  }

  /** Forgets everything; stages that run are counted from their own start. */
  reset(): void {
    this.#stages.clear();
  }
}
