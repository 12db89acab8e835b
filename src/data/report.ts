import type { PreparedData } from "./prepare.ts";
import type { ReasonCounts } from "./records.ts";

/**
 * A limit on the length of samples, in tokens, as far as the model's context allows it; says so where it is lower than asked.
 *
 * @param context most tokens that such a sample can have in this model
 */
export function withinContext(note: (line: string) => void, setting: string, asked: number, context: number): number {
  if (asked > context) note(`${setting}: ${context} instead of ${asked}: the model's context allows no more`);
  return Math.min(asked, context);
}

/** Says what became of the data: how many samples there are, every record that is left out, by reason, and what weights make of it. */
export function reportData(note: (line: string) => void, what: string, { train, heldOut, statistics }: PreparedData<unknown>): void {
  note(`${what}: ${train.length} to train on, ${heldOut.length} held out`);
  for (const { path, skipped, drawn } of statistics) {
    for (const [reason, count] of Object.entries(skipped)) note(`${path}: ${count} skipped: ${reason}`);
    if (drawn === undefined) continue;
    const { numSamples, perEpoch } = drawn;
    note(`${path}: an epoch takes ${perEpoch} from ${numSamples} (${(perEpoch / Math.max(1, numSamples)).toFixed(2)} times each)`);
  }
  for (const [reason, count] of Object.entries(summed(statistics.map(({ dropped }) => dropped)))) {
    note(`${what}: ${count} left out: ${reason}`);
  }
  const numTruncated = statistics.reduce((sum, statistic) => sum + statistic.numTruncated, 0);
  if (numTruncated > 0) note(`${what}: ${numTruncated} too long, shortened`);
}

function summed(counts: readonly ReasonCounts[]): ReasonCounts {
  const sum: Record<string, number> = {};
  for (const [reason, count] of counts.flatMap((each) => Object.entries(each))) sum[reason] = (sum[reason] ?? 0) + count;
  return sum;
}
