import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { TokenizerParts } from "../../src/tokenizer/parts.ts";

/** A folder with a tokenizer of 400 entries and a ChatML template with a default system prompt. */
export const CHATML_FOLDER = fileURLToPath(new URL("../fixtures/tokenizer/chatml", import.meta.url));

/** The same tokenizer as parts, with `changes` to its configuration (undefined removes a key). */
export function chatmlParts(changes: Readonly<Record<string, unknown>> = {}): TokenizerParts {
  const tokenizerJson = readFileSync(join(CHATML_FOLDER, "tokenizer.json"), "utf8");
  const config = JSON.parse(readFileSync(join(CHATML_FOLDER, "tokenizer_config.json"), "utf8")) as Record<string, unknown>;
  return { tokenizerJson, config: { ...config, ...changes } };
}

/** A new folder that is removed when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "tschat-tokenizer-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}
