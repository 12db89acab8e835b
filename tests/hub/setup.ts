import { join } from "node:path";
import { onTestFinished } from "vitest";
import type { Environment } from "../../src/hub/environment.ts";
import type { HubOptions } from "../../src/hub/snapshot.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { LocalHub, type LocalRepo } from "./local-hub.ts";

/** A hub with these repositories and an empty cache. */
export interface HubSetup {
  readonly hub: LocalHub;
  readonly cache: string;
  /** For processes and calls; every call of `options` is a process of its own as far as pinned revisions go. */
  readonly env: Environment;
  readonly options: (more?: Partial<HubOptions>) => HubOptions;
  readonly notes: string[];
}

/** Starts a hub, which stops when the test ends. Retries wait for a millisecond only. */
export async function setUpHub(...repos: LocalRepo[]): Promise<HubSetup> {
  const hub = await LocalHub.start(...repos);
  onTestFinished(() => hub.stop());
  const home = temporaryFolder(), notes: string[] = [];
  const env = { HF_HOME: home, HF_ENDPOINT: hub.endpoint };
  return {
    hub, cache: join(home, "hub"), env, notes,
    options: (more = {}) => ({ retryDelay: 1, onNote: (line) => notes.push(line), ...more, env: { ...env, ...more.env } }),
  };
}

/** `length` bytes that repeat with no short period, so that a piece in the wrong place is seen. */
export function someBytes(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) * 7 + (i >> 16)) % 251));
}
