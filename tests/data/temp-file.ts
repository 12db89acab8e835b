import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";

/** An empty folder that lives as long as the running test. */
export function tempFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tschat-data-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** The path of a new file with this content; it lives as long as the running test. */
export function tempFile(content: string | Uint8Array, name = "data.jsonl"): string {
  const path = join(tempFolder(), name);
  writeFileSync(path, content);
  return path;
}

/** A JSONL file of these values. */
export function tempJsonl(values: readonly unknown[]): string {
  return tempFile(values.map((value) => `${JSON.stringify(value)}\n`).join(""));
}
