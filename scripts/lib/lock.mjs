import { randomUUID } from "node:crypto";
import { link, mkdir, readFile, rename, stat, unlink, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { say } from "./progress.mjs";

/**
 * @typedef {object} Owner
 * @property {number} pid
 * @property {string} host
 * @property {string} id
 */

/**
 * Runs `action` while holding the lock file at `path`; waits while another process holds it.
 * The lock of a process that is dead, or that has not touched it for `staleMs`, is taken over.
 *
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} action
 * @param {{ staleMs?: number, pollMs?: number }} [timing] milliseconds
 * @returns {Promise<T>}
 */
export async function withLock(path, action, { staleMs = 60_000, pollMs = 500 } = {}) {
  await mkdir(dirname(path), { recursive: true });
  const owner = JSON.stringify({ pid: process.pid, host: hostname(), id: randomUUID() });
  for (let attempt = 0; !(await create(path, owner)); attempt++) {
    const holder = await read(path);
    if (holder === undefined) continue;
    if (isAbandoned(holder, staleMs)) await remove(path, holder.text);
    else {
      if (attempt === 0) say(`waiting for another set-up (process ${parse(holder.text)?.pid ?? "unknown"}, ${path})`);
      await delay(pollMs);
    }
  }
  // A lock seen on a shared disk by another machine has no process to look for: its age tells that we are alive.
  const heartbeat = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => undefined), staleMs / 4);
  heartbeat.unref();
  try {
    return await action();
  } finally {
    clearInterval(heartbeat);
    await remove(path, owner);
  }
}

/**
 * @param {string} path
 * @param {string} owner
 */
async function create(path, owner) {
  // Written aside and linked, so that nobody ever reads a lock without its owner.
  const draft = `${path}.${randomUUID()}`;
  await writeFile(draft, owner);
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (isCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    await unlink(draft);
  }
}

/**
 * @param {string} path
 * @returns {Promise<{ text: string, ageMs: number } | undefined>} undefined when the lock was released meanwhile
 */
async function read(path) {
  try {
    const { mtimeMs } = await stat(path);
    return { text: await readFile(path, "utf8"), ageMs: Date.now() - mtimeMs };
  } catch (error) {
    if (isCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/**
 * Removes the lock if it still is the one of `owner`: another waiter may have taken it over in between.
 *
 * @param {string} path
 * @param {string} owner
 */
async function remove(path, owner) {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (isCode(error, "ENOENT")) return;
    throw error;
  }
  if ((await readFile(aside, "utf8")) !== owner) await link(aside, path);
  await unlink(aside);
}

/**
 * @param {{ text: string, ageMs: number }} holder
 * @param {number} staleMs
 */
function isAbandoned({ text, ageMs }, staleMs) {
  const owner = parse(text);
  if (owner === undefined || ageMs > staleMs) return true;
  return owner.host === hostname() && !isAlive(owner.pid);
}

/**
 * @param {string} text
 * @returns {Owner | undefined}
 */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // a damaged lock belongs to nobody
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return isCode(error, "EPERM"); // somebody else's process
  }
}

/**
 * @param {unknown} error
 * @param {string} code
 */
function isCode(error, code) {
  return error instanceof Error && "code" in error && error.code === code;
}
