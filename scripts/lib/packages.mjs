import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./paths.mjs";
import { runPart } from "./program.mjs";
import { say } from "./progress.mjs";
import { SetupError } from "./setup-error.mjs";

/**
 * Installs the npm dependencies of a clone from the lock file, unless node_modules already holds them.
 *
 * @throws {SetupError} when npm fails
 */
export async function ensurePackages() {
  // An installed package has no lock file: whoever installed it has installed its dependencies.
  if (!existsSync(join(ROOT, "package-lock.json")) || isInstalled(ROOT)) return;
  say("npm dependencies: npm ci");
  const exitCode = await runPart("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: ROOT });
  if (exitCode !== 0) throw new SetupError(`cannot install the npm dependencies: npm ci ended with ${exitCode} (its message is above)`);
}

/**
 * Whether node_modules is what the lock file says. npm leaves its own record there, as the last thing that an installation does.
 *
 * @param {string} root
 * @returns {boolean}
 */
export function isInstalled(root) {
  const record = join(root, "node_modules/.package-lock.json");
  if (!existsSync(record)) return false;
  const wanted = readPackages(join(root, "package-lock.json"));
  const present = readPackages(record);
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true;
    const installed = present[path];
    if (installed === undefined) return entry.optional === true; // of another platform
    return installed.version === entry.version && existsSync(join(root, path, "package.json"));
  });
}

/**
 * @param {string} file
 * @returns {Record<string, { version?: string, optional?: boolean }>}
 */
function readPackages(file) {
  return JSON.parse(readFileSync(file, "utf8")).packages;
}

/** The oldest Node that the built program runs on. */
const OLDEST_NODE = [22, 13];

/**
 * The Node that runs tasks: the project's own, else the one that runs this script if it is new enough.
 *
 * @returns {string}
 * @throws {SetupError} when neither is
 */
export function taskNode() {
  const own = join(ROOT, "node_modules/.bin/node");
  if (existsSync(own)) return own;
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const [oldestMajor = 0, oldestMinor = 0] = OLDEST_NODE;
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return process.execPath;
  throw new SetupError(
    `cannot start: this is Node ${process.versions.node}, at least ${OLDEST_NODE.join(".")} is needed, ` +
      `and npm installed none for ${process.platform}-${process.arch}`,
  );
}
