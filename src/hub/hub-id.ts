import { existsSync } from "node:fs";
import { ConfigError } from "../errors.ts";

/** What kind of repository an id names. */
export type RepoKind = "model" | "dataset";

/** A name on the hub: `org/name`, `org/name@revision`, `org/name@revision:selector`. */
export interface HubId {
  /** `org/name`, or `name` alone for the oldest models, such as gpt2. */
  readonly repo: string;
  /** Branch, tag or commit hash. */
  readonly revision: string;
  /** For a model the name of a .gguf file, for a data set `split`, `config/split`, a file or a folder. */
  readonly selector: string | undefined;
}

// The hub's own rule for names; a revision may hold slashes (refs/pr/1), as branches of git may.
const repoName = String.raw`[A-Za-z0-9_][\w.-]{0,95}`;
const hubId = new RegExp(String.raw`^(?<repo>${repoName}(?:/${repoName})?)(?:@(?<revision>\w[\w./+-]*))?(?::(?<selector>[^:\\]+))?$`);
const fileName = /\.(jsonl?|ndjson|csv|tsv|txt|parquet|arrow|gz|zst|gguf|safetensors|bin|pt|ya?ml)$/i;

/**
 * The parts of a hub id; undefined for what can only be a path: `./x`, `/x`, `a/b/c`, `file.jsonl`. Looks at nothing but the text.
 */
export function parseHubId(text: string): HubId | undefined {
  const { repo, revision = "main", selector } = hubId.exec(text)?.groups ?? {};
  if (repo === undefined || /\.\.|--/.test(repo) || fileName.test(repo)) return undefined;
  if ([revision, selector ?? ""].some((part) => part.split("/").includes(".."))) return undefined;
  return { repo, revision, selector };
}

/** The hub id that a setting names; undefined when it is a path. What exists here is always a path. */
export function hubIdOf(pathOrId: string): HubId | undefined {
  return existsSync(pathOrId) ? undefined : parseHubId(pathOrId);
}

/** As `parseHubId`. @throws {ConfigError} for what is no hub id */
export function requireHubId(text: string): HubId {
  const id = parseHubId(text);
  if (id !== undefined) return id;
  throw new ConfigError(`${text}: expected a name on the hub such as org/name or org/name@revision`);
}

/** The text that `parseHubId` reads back. */
export function formatHubId({ repo, revision, selector }: HubId): string {
  return `${repo}${revision === "main" ? "" : `@${revision}`}${selector === undefined ? "" : `:${selector}`}`;
}

/** A full commit hash, which always names the same files. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}
