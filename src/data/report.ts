import type { FileStatistics } from "./dataset.ts";
import type { Encoded } from "./encode.ts";

/** Says what became of the data: how many samples there are, and every record that is left out, by reason. */
export function reportData(note: (line: string) => void, what: string, files: readonly FileStatistics[], train: Encoded<unknown>, heldOut: Encoded<unknown>): void {
  note(`${what}: ${train.samples.length} to train on, ${heldOut.samples.length} held out`);
  for (const { path, skipped } of files) for (const [reason, count] of Object.entries(skipped)) note(`${path}: ${count} skipped: ${reason}`);
  const dropped = new Map<string, number>();
  for (const encoded of [train, heldOut]) for (const [reason, count] of Object.entries(encoded.dropped)) dropped.set(reason, (dropped.get(reason) ?? 0) + count);
  for (const [reason, count] of dropped) note(`${what}: ${count} left out: ${reason}`);
}
