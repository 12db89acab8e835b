import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { ConfigError } from "../errors.ts";
import { errorCode } from "./atomic.ts";

/** The file that says which process holds a folder. */
export const lockName = "run.lock";

/** The process that holds a lock. */
export interface LockHolder {
  readonly pid: number;
  readonly host: string;
  /** Start of the process in clock ticks after boot, where the system tells it: a process id alone may be used again. */
  readonly started?: string;
}

/**
 * Takes the lock of a folder; the function returned gives it back. The lock of a process that has ended is taken over.
 *
 * @throws {ConfigError} when another process holds it
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, lockName);
  const lock = await tryLock(path);
  if (typeof lock === "function") return lock;
  throw new ConfigError(`--output: another run is using ${folder}: ${describeHolder(lock, path)}`);
}

/** How to wait for a lock. */
export interface WaitOptions {
  /** Called once when another process holds the lock, with words for it. */
  readonly onWait?: (holder: string) => void;
  readonly signal?: AbortSignal | undefined;
}

const pollMilliseconds = 100;

/** As `lockFolder` for a lock file of any name, but waits until the lock is free. Its folder must exist. */
export async function lockWhenFree(path: string, { onWait, signal }: WaitOptions = {}): Promise<() => Promise<void>> {
  for (let isFirst = true; ; isFirst = false) {
    const lock = await tryLock(path);
    if (typeof lock === "function") return lock;
    if (isFirst) onWait?.(describeHolder(lock, path));
    await setTimeout(pollMilliseconds, undefined, { signal });
  }
}

/**
 * Takes the lock that the file `path` stands for, and gives the function that gives it back; or who holds it. The lock of a
 * process that has ended is taken over.
 */
export async function tryLock(path: string): Promise<(() => Promise<void>) | LockHolder> {
  const started = await startOf(process.pid);
  const own: LockHolder = { pid: process.pid, host: hostname(), ...(started === undefined ? {} : { started }) };
  for (;;) {
    try {
      await writeFile(path, JSON.stringify(own), { flag: "wx" });
      return () => rm(path, { force: true });
    } catch (error) {
      if (errorCode(error) !== "EEXIST") throw error;
    }
    const holder = await readHolder(path);
    if (holder === "unknown") await setTimeout(pollMilliseconds / 5);
    else if (holder !== undefined && (await isRunning(holder))) return holder;
    else await rm(path, { force: true });
  }
}

function describeHolder({ pid, host }: LockHolder, path: string): string {
  return `process ${pid}${host === hostname() ? "" : ` on ${host}; if that process has ended, remove ${path}`}`;
}

/** Undefined for a lock that is gone or damaged, "unknown" for one that another process may be writing just now. */
async function readHolder(path: string): Promise<LockHolder | "unknown" | undefined> {
  try {
    const text = await readFile(path, "utf8");
    if (text !== "") return JSON.parse(text) as LockHolder;
    return Date.now() - (await stat(path)).mtimeMs < longestWrite ? "unknown" : undefined; // its writer died in it
  } catch (error) {
    if (errorCode(error) === "ENOENT" || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Milliseconds between making a lock file and writing into it, at most. */
const longestWrite = 1000;

async function isRunning({ pid, host, started }: LockHolder): Promise<boolean> {
  if (host !== hostname()) return true; // cannot be seen from here
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === "ESRCH") return false;
    if (errorCode(error) !== "EPERM") throw error; // EPERM: it is another user's, so it runs
  }
  return started === undefined || started === (await startOf(pid));
}

/** Field 22 of /proc/<pid>/stat, counted after the command, which may hold spaces. Undefined where there is no /proc. */
async function startOf(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return "";
    throw error;
  });
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19];
}
