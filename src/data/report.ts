import type { FileStatistics } from "./dataset.ts";
import type { Encoded } from "./encode.ts";

/**
 * A limit on the length of samples, in tokens, as far as the model's context allows it; says so where it is lower than asked.
 *
 * @param context most tokens that such a sample can have in this model
 */
export function withinContext(note: (line: string) => void, setting: string, asked: number, context: number): number {
  if (asked > context) note(`${setting}: ${context} instead of ${asked}: the model's context allows no more`);
  return Math.min(asked, context);
}

/** Says what became of the data: how many samples there are, and every record that is left out, by reason. */
export function reportData(
  note: (line: string) => void, what: string, files: readonly FileStatistics[], train: Encoded<unknown>, heldOut: Encoded<unknown>,
): void {
  note(`${what}: ${train.samples.length} to train on, ${heldOut.samples.length} held out`);
  for (const { path, skipped } of files) {
    for (const [reason, count] of Object.entries(skipped)) note(`${path}: ${count} skipped: ${reason}`);
  }
  const dropped = new Map<string, number>();
  for (const [reason, count] of [train, heldOut].flatMap((encoded) => Object.entries(encoded.dropped))) {
    dropped.set(reason, (dropped.get(reason) ?? 0) + count);
  }
  for (const [reason, count] of dropped) note(`${what}: ${count} left out: ${reason}`);
}
