import { existsSync } from "node:fs";
import { mkdir, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";
import { getSystemErrorMessage } from "node:util";
import { errorCode } from "../checkpoint/atomic.ts";
import { lockWhenFree } from "../checkpoint/lock.ts";
import { ConfigError, HubError } from "../errors.ts";
import type { HubFile, RepoCache } from "./cache.ts";
import { download } from "./download.ts";
import type { Environment, HubEnvironment } from "./environment.ts";
import type { HubId, RepoKind } from "./hub-id.ts";
import { HubRequests, type RequestOptions } from "./requests.ts";

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
    this.names = files.map((file) => (typeof file === "string" ? file : file.path)).sort(); // the order of a data set's files
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
   * @throws {HubError} when one cannot be had
   * @throws {ConfigError} when one is not in the cache and the hub is not to be asked
   */
  async fetch(names: readonly string[], options: HubOptions = {}): Promise<string[]> {
    if (this.#missing(names).length > 0) {
      await explainCacheFailure(this.#environment.cacheFolder, async () => {
        if (this.#environment.offline !== undefined || this.#files.size === 0) throw this.#offlineError(names);
        await mkdir(dirname(this.#cache.lockFile), { recursive: true });
        const unlock = await lockWhenFree(this.#cache.lockFile, {
          signal: options.signal,
          onWait: (holder) => options.onNote?.(`${this.id.repo}: is being downloaded by ${holder}; waiting`),
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
    // Files of one content, or of one that an earlier commit had, are one blob.
    const blobs = new Map(files.map((file) => [this.#cache.blobFile(file), file]));
    const needed = [...blobs].filter(([blob]) => !existsSync(blob));
    const totalBytes = needed.reduce((sum, [, { size }]) => sum + size, 0);
    await this.#checkSpace(totalBytes);
    const failed = new AbortController();
    const signal = AbortSignal.any([failed.signal, ...(options.signal ? [options.signal] : [])]);
    const requests = new HubRequests(this.#environment, { ...requestOptions(options), signal });
    const subject = { kind: this.kind, repo: this.id.repo, revision: this.commit };
    let doneBytes = 0;
    const work = async (): Promise<void> => {
      for (let next = needed.shift(); next !== undefined; next = needed.shift()) {
        const [blob, file] = next;
        await download(requests, {
          file, subject, url: this.#urlOf(file), blob,
          onBytes: (count) => {
            doneBytes += count;
            options.onProgress?.({ id: this.id, doneBytes, totalBytes });
          },
        });
      }
    };
    const workers = Array.from({ length: parallelDownloads }, () => work().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    }));
    const [first] = (await Promise.allSettled(workers)).filter((result) => result.status === "rejected");
    if (first !== undefined) throw failed.signal.reason;
    for (const file of files) await this.#cache.link(this.commit, file);
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
    const [needed, left] = [bytes, bavail * bsize].map((count) => `${(count / 1e9).toFixed(1)} GB`);
    throw new ConfigError(
      `${this.id.repo}: ${needed} do not fit into ${this.#environment.cacheFolder}, which has ${left} left; ` +
        "free some space or name another folder in HF_HUB_CACHE",
    );
  }

  #offlineError(names: readonly string[]): Error {
    const missing = this.#missing(names);
    const some = missing.slice(0, 3).join(", ") + (missing.length > 3 ? ` and ${missing.length - 3} more` : "");
    const { offline } = this.#environment;
    const message = `${this.id.repo}: ${some} of ${this.commit} ${missing.length > 1 ? "are" : "is"} not in the cache, and ` +
      `${offline ?? "the hub could not be reached"}; ${byHand(this.kind, this.pinnedId, this.#environment, names)}`;
    return offline === undefined ? new HubError(message) : new ConfigError(message);
  }
}

/** The options of requests in these of the user. */
export function requestOptions({ signal, retryDelay = 1000, onNote }: HubOptions): RequestOptions {
  return { signal, retryDelay, attempts: 5, onNote: (line) => onNote?.(line) };
}

/** How to bring files to a machine without the hub, for messages. */
export function byHand(kind: RepoKind, { repo, revision }: HubId, { cacheFolder }: HubEnvironment, names: readonly string[] = []): string {
  const type = kind === "dataset" ? " --repo-type dataset" : "";
  const some = names.length > 0 && names.length <= 3 ? ` ${names.join(" ")}` : "";
  const folder = [`${kind}s`, ...repo.split("/")].join("--");
  return `to fetch it by hand, run on a machine with access: hf download ${repo}${some}${type} --revision ${revision} ` +
    `and copy the folder ${folder} of its cache into ${cacheFolder}`;
}

/** Runs `action`. @throws {ConfigError} saying in words what the file system refused in the cache */
export async function explainCacheFailure<T>(folder: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (!["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "ENOTDIR"].includes(errorCode(cause) ?? "")) throw cause;
    const words = getSystemErrorMessage(Number((cause as NodeJS.ErrnoException).errno));
    const advice = "free some space or name another folder in HF_HUB_CACHE";
    throw new ConfigError(`could not write into the hub cache ${folder}: ${words}; ${advice}`, { cause });
  }
}
