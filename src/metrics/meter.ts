/**
 * Running means weighted by counts, e.g. of a loss per token over micro-batches of different lengths:
 *
 *     meter.add("loss", 2.0, 100);
 *     meter.add("loss", 1.0, 300);
 *     meter.means(); // { loss: 1.25 }
 */
export class Meter {
  readonly #totals = new Map<string, { sum: number; count: number }>();

  /** Adds a mean over `count` items. Nothing changes for a count of 0, whatever the value. */
  add(name: string, mean: number, count = 1): void {
    if (!(count >= 0)) throw new RangeError(`meter: the count of ${name} must be 0 or more, got ${count}`);
    if (count === 0) return;
    const { sum, count: before } = this.#totals.get(name) ?? { sum: 0, count: 0 };
    this.#totals.set(name, { sum: sum + mean * count, count: before + count });
  }

  /** The mean of each name that was added, in order of first use. */
  means(): Record<string, number> {
    return Object.fromEntries([...this.#totals].map(([name, { sum, count }]) => [name, sum / count]));
  }

  /** Forgets everything. */
  reset(): void {
    this.#totals.clear();
  }
}
