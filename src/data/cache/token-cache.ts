import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { mkdir, utimes } from "node:fs/promises";
import { homedir, hostname } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { errorCode, explainFailure } from "../../checkpoint/atomic.ts";
import { tryLock } from "../../checkpoint/lock.ts";
import { ConfigError } from "../../errors.ts";
import type { EncodedSource, Entry } from "../samples.ts";
import { contentHash, isSame, seenState } from "./content-hash.ts";
import type { SampleCodec } from "./sample-codec.ts";
import { DamagedTokenFile, openTokenFile, writeTokenFile } from "./token-file.ts";

/** Where encoded data are kept. */
export interface TokenCache {
  readonly folder: string;
  /** What tells encoders apart that give other tokens: `Tokenizer.fingerprint`. */
  readonly encoder: string;
  /** Told what happens to the cache. */
  readonly note: (line: string) => void;
}

/** Where the cache is unless a setting says otherwise: `tokens` in `$TSCHAT_CACHE`, `$XDG_CACHE_HOME/tschat` or `~/.cache/tschat`. */
export function defaultCacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env["TSCHAT_CACHE"]) return join(resolve(env["TSCHAT_CACHE"]), "tokens");
  const base = env["XDG_CACHE_HOME"] || join(homedir(), ".cache");
  return join(base, "tschat", "tokens");
}

/**
 * The cache that `--data-cache` asks for: a folder, the default one if it is undefined, or none for "off".
 *
 * @param encoder its fingerprint is taken; `Tokenizer` has one
 */
export function tokenCacheFor(
  setting: string | undefined, encoder: { fingerprint(): string }, note: (line: string) => void,
): TokenCache | undefined {
  if (setting === "off") return undefined;
  return { folder: resolve(setting ?? defaultCacheFolder()), encoder: encoder.fingerprint(), note };
}

/** What is encoded. */
export interface CacheKey {
  readonly files: readonly string[];
  /** All that decides, besides the files' content and the encoder, what the entries are. */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** Raised when the same records would be encoded differently than before. */
const ENCODING_VERSION = 1;

/** How long a process waits before it looks again whether another one has finished, in milliseconds. */
const POLL_MS = 200;

/** Adds the entries of a source; gives the number of its lines. */
export type FillEntries<T> = (add: (entry: Entry<T>) => Promise<void>) => Promise<number>;

/**
 * The entries of a source from the cache, encoded first if they are not there. Of several processes of one machine that need
 * the same entries one encodes and the others wait. A file of the cache is there whole or not at all; a damaged one is encoded anew.
 *
 * @throws {ConfigError} when the cache cannot be written, and when a data file changes while it is encoded
 */
export async function cachedEntries<T>(
  cache: TokenCache, key: CacheKey, codec: SampleCodec<T>, fill: FillEntries<T>,
): Promise<EncodedSource<T>> {
  return explainCache(cache.folder, async () => {
    await mkdir(cache.folder, { recursive: true });
    const name = await nameOf(cache, key);
    const path = join(cache.folder, `${name}.tokens`);
    // Machines that share the folder do not see each other's processes, so each has a lock of its own.
    const ours = join(cache.folder, `${name}.${hostname()}`);
    for (let waits = 0; ; waits++) {
      const found = await openFound(path, codec, cache.note);
      if (found !== undefined) return found;
      const lock = await tryLock(`${ours}.lock`);
      if (typeof lock === "function") {
        try {
          return await openFound(path, codec, cache.note) ?? await build(path, `${ours}.tmp`, { key, codec, fill });
        } finally {
          await lock();
        }
      }
      if (waits === 0) cache.note(`${key.files.join(", ")}: process ${lock.pid} is encoding it; waiting`);
      await setTimeout(POLL_MS);
    }
  });
}

interface Job<T> {
  readonly key: CacheKey;
  readonly codec: SampleCodec<T>;
  readonly fill: FillEntries<T>;
}

async function build<T>(path: string, aside: string, { key, codec, fill }: Job<T>): Promise<EncodedSource<T>> {
  const before = await Promise.all(key.files.map(seenState));
  await writeTokenFile(path, aside, codec, async (add) => {
    const numLines = await fill(add);
    for (const [i, file] of key.files.entries()) {
      if (!isSame(before[i]!, await seenState(file))) {
        throw new ConfigError(`${file}: expected a file that stays as it is, found that it was written to while it was read; start again`);
      }
    }
    return numLines;
  });
  return openTokenFile(path, codec);
}

/** Undefined for a file that is missing or damaged. */
async function openFound<T>(path: string, codec: SampleCodec<T>, note: TokenCache["note"]): Promise<EncodedSource<T> | undefined> {
  try {
    const source = openTokenFile(path, codec);
    const now = new Date();
    await utimes(path, now, now).catch(() => {}); // for those who remove what was not used for long; not ours to change in a shared cache
    return source;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    if (!(error instanceof DamagedTokenFile)) throw error;
    note(`${path}: damaged: ${error.message}; encoding the data again`);
    return undefined;
  }
}

async function nameOf({ folder, encoder }: TokenCache, { files, settings }: CacheKey): Promise<string> {
  const contents: string[] = [];
  for (const file of files) contents.push(await contentHash(file, folder));
  const key = JSON.stringify({ version: [packageVersion(), ENCODING_VERSION], encoder, contents, settings });
  return createHash("sha256").update(key).digest("hex").slice(0, 40);
}

/** Another version may make other records of the same data. */
function packageVersion(): string {
  const { version } = JSON.parse(readFileSync(new URL("../../../package.json", import.meta.url), "utf8")) as { version: string };
  return version;
}

async function explainCache<T>(folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await explainFailure(folder, action);
  } catch (error) {
    if (!(error instanceof ConfigError) || !error.message.startsWith("could not write")) throw error;
    throw new ConfigError(error.message.replaceAll("--output", "--data-cache"), { cause: error.cause });
  }
}
