import { readFile, rm, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
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
  const elsewhere = lock.host === hostname() ? "" : ` on ${lock.host}; if that process has ended, remove ${path}`;
  throw new ConfigError(`--output: another run is using ${folder}: process ${lock.pid}${elsewhere}`);
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
    if (holder !== undefined && (await isRunning(holder))) return holder;
    await rm(path, { force: true });
  }
}

/** Undefined for a lock that is gone, or empty because its writer died. */
async function readHolder(path: string): Promise<LockHolder | undefined> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return "";
    throw error;
  });
  try {
    return JSON.parse(text) as LockHolder;
  } catch {
    return undefined; // half a lock: the write is one small call, so its process died in it
  }
}

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
