import { mkdir, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { getSystemErrorMessage } from "node:util";
import { errorCode } from "../checkpoint/atomic.ts";
import { lockWhenFree } from "../checkpoint/lock.ts";
import { ConfigError, HubError } from "../errors.ts";
import { type HubFile, RepoCache } from "./cache.ts";
import { download } from "./download.ts";
import { type Environment, hubEnvironment, type HubEnvironment } from "./environment.ts";
import { type HubId, isCommit, type RepoKind } from "./hub-id.ts";
import { listFiles, lookUpCommit } from "./listing.ts";
import { HubRequests, type RequestOptions, UnreachableError } from "./requests.ts";

/** Bytes of a download so far: of all files together, with what an earlier attempt left. */
export interface DownloadProgress {
  readonly id: HubId;
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** How files come from the hub. */
export interface HubOptions {
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
  /** Told in words what is waited for, tried again, or taken from the cache because the hub cannot be reached. */
  readonly onNote?: ((line: string) => void) | undefined;
  /** Ends a download; what has arrived is kept and the next one goes on from there. */
  readonly signal?: AbortSignal | undefined;
  /** `process.env` when left out. */
  readonly env?: Environment | undefined;
  /** Milliseconds before a failed request is made again, doubled each time; 1000 when left out. */
  readonly retryDelay?: number | undefined;
}

/** Files that are downloaded at a time; more does not make a large one faster. */
const parallelDownloads = 4;

interface SnapshotParts {
  readonly kind: RepoKind;
  readonly id: HubId;
  readonly commit: string;
  /** As the hub lists them; only names where it could not be asked and the cache has files without a listing. */
  readonly files: readonly HubFile[] | readonly string[];
  readonly cache: RepoCache;
  readonly environment: HubEnvironment;
}

/** A repository at one commit, whose files are in the cache or can be brought there. */
export class Snapshot {
  readonly kind: RepoKind;
  readonly id: HubId;
  readonly commit: string;
  /** The names of all files of the commit, or of those in the cache where the hub could not be asked. */
  readonly names: readonly string[];
  readonly #files: ReadonlyMap<string, HubFile>;
  readonly #cache: RepoCache;
  readonly #environment: HubEnvironment;

  /** Made by `openSnapshot`. */
  constructor({ kind, id, commit, files, cache, environment }: SnapshotParts) {
    this.kind = kind;
    this.id = id;
    this.commit = commit;
    this.names = files.map((file) => (typeof file === "string" ? file : file.path));
    this.#files = new Map(files.flatMap((file) => (typeof file === "string" ? [] : [[file.path, file]])));
    this.#cache = cache;
    this.#environment = environment;
  }

  get folder(): string { return this.#cache.snapshotFolder(this.commit); }

  /** The id with this commit in place of a branch or tag. */
  get pinnedId(): HubId { return { ...this.id, revision: this.commit }; }

  /**
   * Brings files into the cache; one process at a time does that for a repository, others wait and find them.
   *
   * @returns their paths, in the order of `names`
   * @throws {HubError} when one is neither in the cache nor to be had
   */
  async fetch(names: readonly string[], options: HubOptions = {}): Promise<string[]> {
    if (this.#missing(names).length > 0) {
      await explainCacheFailure(this.#environment.cacheFolder, async () => {
        if (this.#environment.offline !== undefined || this.#files.size === 0) throw this.#offlineError(names);
        await mkdir(dirname(this.#cache.lockFile), { recursive: true });
        const unlock = await lockWhenFree(this.#cache.lockFile, {
          signal: options.signal,
          onWait: (holder) => options.onNote?.(`${this.id.repo}: waiting for ${holder}, which is downloading it`),
        });
        try {
          await this.#downloadAll(this.#missing(names), options);
        } finally {
          await unlock();
        }
      });
    }
    return names.map((name) => join(this.folder, name));
  }

  #missing(names: readonly string[]): string[] {
    return names.filter((name) => !this.#cache.has(this.commit, name));
  }

  async #downloadAll(names: readonly string[], options: HubOptions): Promise<void> {
    const files = names.map((name) => this.#files.get(name)).filter((file) => file !== undefined);
    const totalBytes = files.reduce((sum, { size }) => sum + size, 0);
    await this.#checkSpace(totalBytes);
    const failed = new AbortController();
    const signal = AbortSignal.any([failed.signal, ...(options.signal ? [options.signal] : [])]);
    const requests = new HubRequests(this.#environment, { ...requestOptions(options), signal });
    const subject = { kind: this.kind, repo: this.id.repo, revision: this.commit };
    let doneBytes = 0;
    const queue = [...files];
    const work = async (): Promise<void> => {
      for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
        await download(requests, {
          file, subject, url: this.#urlOf(file), blob: this.#cache.blobFile(file),
          onBytes: (count) => options.onProgress?.({ id: this.id, doneBytes: doneBytes += count, totalBytes }),
        });
        await this.#cache.link(this.commit, file);
      }
    };
    const workers = Array.from({ length: parallelDownloads }, () => work().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    }));
    const [first] = (await Promise.allSettled(workers)).filter((result) => result.status === "rejected");
    if (first !== undefined) throw failed.signal.reason;
  }

  #urlOf({ path }: HubFile): string {
    const prefix = this.kind === "dataset" ? "datasets/" : "";
    const name = path.split("/").map(encodeURIComponent).join("/");
    return `${this.#environment.endpoint}/${prefix}${this.id.repo}/resolve/${this.commit}/${name}`;
  }

  /** @throws {ConfigError} before an hour's download rather than at its end */
  async #checkSpace(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#environment.cacheFolder);
    if (bytes <= bavail * bsize) return;
    const gigabytes = (count: number): string => `${(count / 1e9).toFixed(1)} GB`;
    throw new ConfigError(
      `${this.id.repo}: ${gigabytes(bytes)} do not fit into ${this.#environment.cacheFolder}, which has ${gigabytes(bavail * bsize)} left; ` +
        "free some space or name another folder in HF_HUB_CACHE",
    );
  }

  #offlineError(names: readonly string[]): HubError {
    const missing = this.#missing(names);
    const some = missing.slice(0, 3).join(", ") + (missing.length > 3 ? ` and ${missing.length - 3} more` : "");
    return new HubError(
      `${this.id.repo}: ${some} of ${this.commit} ${missing.length > 1 ? "are" : "is"} not in the cache, and ` +
        `${this.#environment.offline ?? "the hub could not be reached"}; ${byHand(this.kind, this.pinnedId, this.#environment, names)}`,
    );
  }
}

/**
 * The repository that an id names, at the commit that its revision is now. The hub is asked once for each revision in a process and
 * those that it starts, so a name means the same files wherever it stands. When the hub cannot be reached, the cache tells
 * what the revision was when it was asked last.
 *
 * @throws {ConfigError} when there is no such repository or revision, or no access to it
 * @throws {HubError} when the hub cannot be reached and the cache has nothing
 */
export async function openSnapshot(kind: RepoKind, id: HubId, options: HubOptions = {}): Promise<Snapshot> {
  const env = options.env ?? process.env;
  const environment = hubEnvironment(env);
  return explainCacheFailure(environment.cacheFolder, async () => {
    const cache = new RepoCache(environment.cacheFolder, kind, id.repo);
    const commit = isCommit(id.revision) ? id.revision : (readPins(env)[pinOf(kind, id)] ?? (await findCommit(kind, id, { cache, environment, options })));
    const files = (await cache.readTree(commit)) ?? (await findFiles(kind, id, { commit, cache, environment, options }));
    if (environment.offline === undefined) await ifWritable(() => cache.writeRef(id.revision, commit));
    if (!isCommit(id.revision)) env[pinVariable] = JSON.stringify({ ...readPins(env), [pinOf(kind, id)]: commit });
    return new Snapshot({ kind, id, commit, files, cache, environment });
  });
}

interface Place {
  readonly cache: RepoCache;
  readonly environment: HubEnvironment;
  readonly options: HubOptions;
}

async function findCommit(kind: RepoKind, id: HubId, { cache, environment, options }: Place): Promise<string> {
  const cached = await cache.readRef(id.revision);
  const requests = new HubRequests(environment, requestOptions(options, cached === undefined ? undefined : 2));
  return hubOrCache(kind, id, { environment, options, cached }, () => lookUpCommit(requests, { kind, ...id }));
}

async function findFiles(
  kind: RepoKind, id: HubId, { commit, cache, environment, options }: Place & { commit: string },
): Promise<readonly HubFile[] | readonly string[]> {
  const names = await cache.walkSnapshot(commit);
  const requests = new HubRequests(environment, requestOptions(options));
  const cached: readonly string[] | undefined = names.length > 0 ? names : undefined;
  return hubOrCache<readonly HubFile[] | readonly string[]>(kind, id, { environment, options, cached }, async () => {
    const files = await listFiles(requests, { kind, repo: id.repo, revision: commit });
    await ifWritable(() => cache.writeTree(commit, files));
    return files;
  });
}

/** What the hub says; what the cache knows when the hub is not to be asked or cannot be reached. */
async function hubOrCache<T>(
  kind: RepoKind, id: HubId, { environment, options, cached }: { environment: HubEnvironment; options: HubOptions; cached: T | undefined },
  ask: () => Promise<T>,
): Promise<T> {
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

function requestOptions({ signal, retryDelay = 1000, onNote }: HubOptions, attempts = 5): RequestOptions {
  return { signal, retryDelay, attempts, onNote: (line) => onNote?.(line) };
}

function notHere(kind: RepoKind, id: HubId, environment: HubEnvironment, cause?: Error): HubError {
  const why = cause?.message ?? `the cache does not hold ${kind === "dataset" ? "a data set" : "a model"} of this name (${environment.offline})`;
  return new HubError(`${id.repo}: no such file or folder here, and ${why}; ${byHand(kind, id, environment)}`, { cause });
}

/** How to bring files to a machine without the hub. */
function byHand(kind: RepoKind, { repo, revision }: HubId, { cacheFolder }: HubEnvironment, names: readonly string[] = []): string {
  const type = kind === "dataset" ? " --repo-type dataset" : "";
  const some = names.length > 0 && names.length <= 3 ? ` ${names.join(" ")}` : "";
  const folder = [`${kind}s`, ...repo.split("/")].join("--");
  return `to fetch it by hand, run on a machine with access: hf download ${repo}${some}${type} --revision ${revision} ` +
    `and copy the folder ${folder} of its cache into ${cacheFolder}`;
}

/** Notes in the cache save later requests only; a cache that others fill may be read-only. */
async function ifWritable(action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!["EROFS", "EACCES", "EPERM"].includes(errorCode(error) ?? "")) throw error;
  }
}

/** Says in words what the file system refused in the cache. */
async function explainCacheFailure<T>(folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOTDIR"].includes(errorCode(cause) ?? "")) throw cause;
    const words = getSystemErrorMessage(Number((cause as NodeJS.ErrnoException).errno));
    throw new ConfigError(`could not write into the hub cache ${folder}: ${words}; free some space or name another folder in HF_HUB_CACHE`, { cause });
  }
}
