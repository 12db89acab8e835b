import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { getSystemErrorMessage } from "node:util";
import { ConfigError } from "../errors.ts";

/**
 * Writes a folder so that it is there whole or not at all, also after a crash or a power cut: `fill` writes into a temporary
 * folder beside it, everything is synced to the disk, and a rename puts it in place. An existing folder is replaced.
 *
 * @param fill gets the temporary folder, which exists and is empty; when it throws nothing is left behind
 * @throws {ConfigError} naming the path when the disk is full, the place is read-only, or the like
 */
export async function writeFolder(folder: string, fill: (temporary: string) => Promise<void>): Promise<void> {
  const target = resolve(folder);
  const aside = besideOf(target, "tmp");
  await explainFailure(folder, async () => {
    await mkdir(dirname(target), { recursive: true });
    await rm(aside, { recursive: true, force: true }); // a crashed process may have had the same id
    await mkdir(aside);
    try {
      await fill(aside);
      await syncTree(aside);
      await putInPlace(aside, target);
    } finally {
      await rm(aside, { recursive: true, force: true });
    }
  });
}

/**
 * Writes a text file so that it is there whole or not at all, also after a crash. The folder must exist.
 *
 * @throws {ConfigError} naming the path when the disk is full, the place is read-only, or the like
 */
export async function writeFileAtomic(path: string, text: string): Promise<void> {
  const target = resolve(path);
  const aside = besideOf(target, "tmp");
  await explainFailure(path, async () => {
    try {
      const file = await open(aside, "w");
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(aside, target);
    } finally {
      await rm(aside, { force: true });
    }
    await sync(dirname(target));
  });
}

/**
 * Clears what a crash left in the middle of `writeFolder` or `writeFileAtomic`: unfinished writes are removed, and a folder
 * that was moved away to be replaced, but was not replaced, is moved back. Nothing else may be writing in `folder`.
 */
export async function cleanLeftovers(folder: string): Promise<void> {
  const names = await readdir(folder);
  for (const name of names) {
    const { target, kind } = leftover.exec(name)?.groups ?? {};
    if (target === undefined) continue;
    const path = join(folder, name);
    if (kind === "old" && !names.includes(target)) await rename(path, join(folder, target));
    else await rm(path, { recursive: true, force: true });
  }
}

const leftover = /^\.(?<target>.+)\.(?<kind>tmp|old)-\d+$/;

/** `.model.tmp-4711` for `model`: hidden, in the same file system, and no other process's. */
function besideOf(target: string, kind: "tmp" | "old"): string {
  return join(dirname(target), `.${basename(target)}.${kind}-${process.pid}`);
}

async function putInPlace(aside: string, target: string): Promise<void> {
  const old = besideOf(target, "old");
  const isReplaced = await exists(target);
  if (isReplaced) {
    await rm(old, { recursive: true, force: true });
    await rename(target, old);
  }
  await rename(aside, target);
  await sync(dirname(target));
  if (isReplaced) await rm(old, { recursive: true, force: true });
}

/** Syncs every file and folder below `folder`, and the folder itself. */
async function syncTree(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await sync(path);
  }
  await sync(folder);
}

async function sync(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Whether something has this path. */
export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  })) !== undefined;
}

/** `ENOSPC` and the like, for an error of the file system. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** What the user can do something about. Other errors are a matter of what `fill` does, and stay as they are. */
const remedies: Readonly<Record<string, string>> = {
  ENOSPC: "free some space or choose another --output",
  EDQUOT: "free some space or choose another --output",
  EROFS: "choose another --output",
  EACCES: "choose another --output or change its permissions",
  EPERM: "choose another --output or change its permissions",
  ENOTDIR: "a part of this path is a file; choose another --output",
  EEXIST: "something else has this name; choose another --output",
  EIO: "check the disk",
};

/**
 * Runs `action` and says in words what the file system refused.
 *
 * @throws {ConfigError} `could not write <path>: no space left on device; free some space ...`
 */
export async function explainFailure<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const remedy = remedies[errorCode(cause) ?? ""];
    if (remedy === undefined || !(cause instanceof Error && "errno" in cause)) throw cause;
    // libuv has no words for this one.
    const words = errorCode(cause) === "EDQUOT" ? "disk quota exceeded" : getSystemErrorMessage(Number(cause.errno));
    throw new ConfigError(`could not write ${path}: ${words}; ${remedy}`, { cause });
  }
}
