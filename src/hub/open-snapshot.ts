import { errorCode } from "../checkpoint/atomic.ts";
import { ConfigError, HubError } from "../errors.ts";
import { type HubFile, RepoCache } from "./cache.ts";
import { type Environment, hubEnvironment, type HubEnvironment } from "./environment.ts";
import { type HubId, isCommit, type RepoKind } from "./hub-id.ts";
import { listFiles, lookUpCommit } from "./listing.ts";
import { HubRequests, UnreachableError } from "./requests.ts";
import { byHand, explainCacheFailure, type HubOptions, requestOptions, Snapshot } from "./snapshot.ts";

/**
 * The repository that an id names, at the commit that its revision is now. The hub is asked once for each revision in a process and
 * those that it starts, so a name means the same files wherever it stands. When the hub cannot be reached, the cache tells
 * what the revision was when it was asked last.
 *
 * @throws {ConfigError} when there is no such repository or revision, or no access to it, or none in the cache when it is not to be asked
 * @throws {HubError} when the hub cannot be reached and the cache has nothing
 */
export async function openSnapshot(kind: RepoKind, id: HubId, options: HubOptions = {}): Promise<Snapshot> {
  const env = options.env ?? process.env;
  const environment = hubEnvironment(env);
  return explainCacheFailure(environment.cacheFolder, async () => {
    const cache = new RepoCache(environment.cacheFolder, kind, id.repo);
    const place = { kind, id, cache, environment, options };
    const pinned = isCommit(id.revision) ? id.revision : readPins(env)[pinOf(kind, id)];
    const commit = pinned ?? (await findCommit(place));
    const files = (await cache.readTree(commit)) ?? (await findFiles(place, commit));
    if (environment.offline === undefined) await ifWritable(() => cache.writeRef(id.revision, commit));
    if (!isCommit(id.revision)) env[pinVariable] = JSON.stringify({ ...readPins(env), [pinOf(kind, id)]: commit });
    return new Snapshot({ kind, id, commit, files, cache, environment });
  });
}

/** Where an id is looked for. */
interface Place {
  readonly kind: RepoKind;
  readonly id: HubId;
  readonly cache: RepoCache;
  readonly environment: HubEnvironment;
  readonly options: HubOptions;
}

async function findCommit(place: Place): Promise<string> {
  const { kind, id, cache, environment, options } = place;
  const cached = await cache.readRef(id.revision);
  // With something to fall back on a network that is down need not be waited for.
  const requests = new HubRequests(environment, { ...requestOptions(options), ...(cached !== undefined && { attempts: 2 }) });
  return hubOrCache(place, cached, () => lookUpCommit(requests, { kind, repo: id.repo, revision: id.revision }));
}

/** Listed by the hub, or the names of those that the cache has. */
type Files = readonly HubFile[] | readonly string[];

async function findFiles(place: Place, commit: string): Promise<Files> {
  const { kind, id, cache, environment, options } = place;
  const names = await cache.walkSnapshot(commit);
  return hubOrCache<Files>(place, names.length > 0 ? names : undefined, async () => {
    const files = await listFiles(new HubRequests(environment, requestOptions(options)), { kind, repo: id.repo, revision: commit });
    await ifWritable(() => cache.writeTree(commit, files));
    return files;
  });
}

/** What the hub says; what the cache knows when the hub is not to be asked or cannot be reached. */
async function hubOrCache<T>({ kind, id, environment, options }: Place, cached: T | undefined, ask: () => Promise<T>): Promise<T> {
  if (environment.offline === undefined) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof UnreachableError)) throw error;
      if (cached === undefined) throw notHere(kind, id, environment, error);
      options.onNote?.(`${id.repo}: ${error.message}; taken from the cache as it is`);
    }
  }
  if (cached === undefined) throw notHere(kind, id, environment);
  return cached;
}

/** Where the commits of revisions stand for this process and those that it starts: `kind repo@revision` -> commit, as JSON. */
const pinVariable = "TSCHAT_HUB_PINS";

function pinOf(kind: RepoKind, { repo, revision }: HubId): string {
  return `${kind} ${repo}@${revision}`;
}

function readPins(env: Environment): Record<string, string> {
  return JSON.parse(env[pinVariable] ?? "{}") as Record<string, string>;
}

/** Without a cause the hub was not to be asked. */
function notHere(kind: RepoKind, id: HubId, environment: HubEnvironment, cause?: Error): Error {
  const what = kind === "dataset" ? "a data set" : "a model";
  const why = cause?.message ?? `the cache does not hold ${what} of this name (${environment.offline})`;
  const message = `${id.repo}: no such file or folder here, and ${why}; ${byHand(kind, id, environment)}`;
  return cause === undefined ? new ConfigError(message) : new HubError(message, { cause });
}

/** Notes in the cache save later requests only; a cache that others fill may be read-only. */
async function ifWritable(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!["EROFS", "EACCES", "EPERM"].includes(errorCode(error) ?? "")) throw error;
  }
}
