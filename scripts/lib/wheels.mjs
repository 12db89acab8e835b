import { existsSync, readFileSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { withLock } from "./lock.mjs";
import { runPart } from "./program.mjs";
import { say, startBytes } from "./progress.mjs";
import { SetupError } from "./setup-error.mjs";
import { unzip } from "./zip.mjs";

const POLL_MS = 500;

/**
 * @typedef {object} Wheel
 * @property {string} name with version: `torch==2.15.0`
 * @property {string} requirement the line that pip takes, with its hash
 * @property {number} bytes size of the wheel
 */

/**
 * @typedef {object} WheelFolder
 * @property {string} label for the progress lines
 * @property {string} target folder to make
 * @property {string} requirements pip's requirements file, one hash and one size a line
 * @property {readonly string[]} platforms wheel tags; empty for wheels of any platform
 * @property {number} unpackedBytes what `select` takes
 * @property {(name: string) => string | undefined} select from an entry of a wheel to its place in `target`
 */

/**
 * Makes `target` out of files of the pinned wheels, once: pip downloads and verifies them, they are unpacked into a temporary folder,
 * and that is renamed. Interrupted before the rename, it starts again, except for wheels that were complete.
 *
 * @param {WheelFolder} folder
 * @param {string[]} pip command line of pip
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<void>}
 * @throws {SetupError} without network, without space, or when a wheel is not the pinned one
 */
export async function ensureWheelFolder(folder, pip, env = process.env) {
  const { target } = folder;
  if (existsSync(target)) return;
  try {
    await withLock(`${target}.lock`, async () => {
      if (existsSync(target)) return;
      const partial = `${target}.partial`;
      const downloads = `${target}.downloads`;
      await rm(partial, { recursive: true, force: true });
      const wheels = readRequirements(folder.requirements);
      const downloadBytes = wheels.reduce((sum, { bytes }) => sum + bytes, 0);
      // pip keeps a wheel under a temporary name while it downloads, then copies it.
      await requireSpace(dirname(target), downloadBytes + Math.max(folder.unpackedBytes, ...wheels.map(({ bytes }) => bytes)));
      for (const wheel of wheels) await download(wheel, folder, downloads, pip, env);
      await unpack(folder, downloads, partial);
      await rename(partial, target);
      await rm(downloads, { recursive: true, force: true });
    });
  } catch (cause) {
    throw explainDisk(cause, dirname(target));
  }
  say(`${folder.label}: ready in ${target}`);
}

/**
 * Reads the pinned wheels: lines like `torch==2.15.0 --hash=sha256:...  # 539136850 bytes`.
 *
 * @param {string} file
 * @returns {Wheel[]}
 */
export function readRequirements(file) {
  const lines = readFileSync(file, "utf8").split("\n").map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
    const match = /^(\S+) (--hash=sha256:[0-9a-f]{64})\s+# (\d+) bytes$/.exec(line);
    if (!match) throw new Error(`internal: ${file}: expected "name==version --hash=sha256:...  # N bytes", found "${line}"`);
    const [, name, hash, bytes] = /** @type {[string, string, string, string]} */ (/** @type {unknown} */ (match));
    return { name, requirement: `${name} ${hash}`, bytes: Number(bytes) };
  });
}

/**
 * @param {string} folder
 * @param {number} bytes
 * @throws {SetupError} when the disk of `folder` has less than `bytes` free
 */
export async function requireSpace(folder, bytes) {
  await mkdir(folder, { recursive: true });
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= bytes) return;
  throw new SetupError(
    `cannot download: ${Math.round((bavail * bsize) / 1e6)} MB free in ${folder}, ${Math.round(bytes / 1e6)} MB needed; ` +
      "free some space, or set TSCHAT_CACHE to a folder on a larger disk",
  );
}

/**
 * @param {Wheel} wheel
 * @param {WheelFolder} folder
 * @param {string} downloads
 * @param {string[]} pip
 * @param {NodeJS.ProcessEnv} env
 */
async function download(wheel, folder, downloads, pip, env) {
  const temporary = join(downloads, "pip");
  await rm(temporary, { recursive: true, force: true });
  await mkdir(temporary, { recursive: true });
  const requirements = join(downloads, "requirements.txt");
  await writeFile(requirements, `${wheel.requirement}\n`);
  const tags = folder.platforms.flatMap((platform) => ["--platform", platform]);
  const python = tags.length === 0 ? [] : ["--python-version", "3.11"];
  const [command, ...args] = /** @type {[string, ...string[]]} */ (pip);
  args.push("download", "--no-deps", "--only-binary=:all:", ...python, ...tags, "--require-hashes", "--requirement", requirements);
  args.push("--dest", downloads, "--no-cache-dir", "--progress-bar", "off", "--disable-pip-version-check");

  const progress = startBytes(`${folder.label}: downloading ${wheel.name}`, wheel.bytes);
  let most = 0;
  const poll = setInterval(async () => {
    most = Math.max(most, await folderBytes(temporary));
    progress.update(most);
  }, POLL_MS);
  /** @type {string[]} */
  const output = [];
  try {
    // pip's own temporary folder may lie on a small disk; here it is also seen growing.
    const exitCode = await runPart(command, args, { env: { ...env, TMPDIR: temporary }, onLine: (line) => output.push(line) });
    if (exitCode !== 0) throw explainPip(wheel, output);
  } finally {
    clearInterval(poll);
    progress.end();
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * @param {WheelFolder} folder
 * @param {string} downloads
 * @param {string} partial
 */
async function unpack(folder, downloads, partial) {
  const progress = startBytes(`${folder.label}: unpacking`, folder.unpackedBytes);
  let done = 0;
  const select = (/** @type {string} */ name) => {
    const path = folder.select(name);
    return path === undefined ? undefined : join(partial, path);
  };
  for (const name of (await readdir(downloads)).filter((file) => file.endsWith(".whl"))) {
    await unzip(join(downloads, name), select, (bytes) => {
      done += bytes;
      progress.update(done);
    });
  }
  progress.end();
}

/**
 * @param {Wheel} wheel
 * @param {string[]} output what pip printed
 */
function explainPip(wheel, output) {
  const text = output.join("\n");
  const failure = `cannot download ${wheel.name}`;
  if (/DO NOT MATCH THE HASHES/.test(text)) {
    const reason = "its checksum is not the pinned one; the index or proxy that pip uses gives another file";
    return new SetupError(`${failure}: ${reason}:\n${detail(output)}`);
  }
  if (/No space left on device/.test(text)) return Object.assign(new Error(text), { code: "ENOSPC" });
  const isOffline = /connection broken by|NewConnectionError|ConnectTimeout|ReadTimeout|ConnectionError|name resolution/i.test(text);
  if (isOffline) return new SetupError(`${failure}: no network; check the connection and pip's proxy and index:\n${detail(output)}`);
  return new SetupError(`${failure}: pip says:\n${detail(output)}`);
}

/** @param {string[]} output */
function detail(output) {
  return output.filter((line) => line.trim() !== "").slice(-8).map((line) => `    ${line}`).join("\n");
}

/**
 * @param {unknown} cause
 * @param {string} folder
 */
function explainDisk(cause, folder) {
  if (!(cause instanceof Error) || !("code" in cause)) return cause;
  if (cause.code === "ENOSPC" || cause.code === "EDQUOT") {
    const advice = "free some space, or set TSCHAT_CACHE to a folder on a larger disk";
    return new SetupError(`cannot write to ${folder}: the disk is full; ${advice}`, { cause });
  }
  if (["EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST"].includes(String(cause.code))) {
    return new SetupError(`cannot write to ${folder}: ${cause.message}; set TSCHAT_CACHE to a folder that you can write to`, { cause });
  }
  return cause;
}

/**
 * @param {string} folder
 * @returns {Promise<number>}
 */
async function folderBytes(folder) {
  let sum = 0;
  // pip removes files under our eyes.
  for (const entry of await readdir(folder, { recursive: true }).catch(() => [])) {
    const info = await stat(join(folder, entry)).catch(() => undefined);
    if (info?.isFile()) sum += info.size;
  }
  return sum;
}
