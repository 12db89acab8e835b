import { execFileSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import { SetupError } from "./setup-error.mjs";

/** The oldest GCC that libtorch 2.15's C++20 headers compile with. */
const OLDEST_GCC = 11;

/** How the tools are called in each package manager; the first one on PATH is suggested. */
const INSTALLERS = [
  { command: "apt-get", install: "sudo apt-get install -y", pip: "python3-pip", cmake: "cmake", compiler: "g++", make: "make" },
  { command: "dnf", install: "sudo dnf install -y", pip: "python3-pip", cmake: "cmake", compiler: "gcc-c++", make: "make" },
  { command: "zypper", install: "sudo zypper install -y", pip: "python3-pip", cmake: "cmake", compiler: "gcc-c++", make: "make" },
  { command: "pacman", install: "sudo pacman -S --noconfirm", pip: "python-pip", cmake: "cmake", compiler: "gcc", make: "make" },
  { command: "brew", install: "brew install", pip: "python", cmake: "cmake", compiler: "gcc", make: "make" },
];

/** @typedef {"pip" | "cmake" | "compiler" | "make"} Tool */
/** @typedef {Record<Tool, string[]>} Tools the command line of each; empty for a tool that was not asked for */

/** @type {Record<Tool, string>} */
const NAMES = {
  pip: "pip of Python 3 (only to download the libtorch wheel)",
  cmake: "CMake",
  compiler: `a C++20 compiler (g++ ${OLDEST_GCC} or newer)`,
  make: "Ninja or make",
};

/**
 * Where the set-up's tools are.
 *
 * @param {readonly Tool[]} wanted
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Tools}
 * @throws {SetupError} naming every tool that is missing, with the command that installs it
 */
export function findTools(wanted, env = process.env) {
  /** @type {Tools} */
  const found = { pip: [], cmake: [], compiler: [], make: [] };
  for (const tool of wanted) found[tool] = FINDERS[tool](env) ?? [];
  const missing = wanted.filter((tool) => found[tool].length === 0);
  if (missing.length > 0) {
    const installer = INSTALLERS.find(({ command }) => which(command, env)) ?? /** @type {(typeof INSTALLERS)[0]} */ (INSTALLERS[0]);
    const names = missing.map((tool) => NAMES[tool]).join(", ");
    const packages = missing.map((tool) => installer[tool]).join(" ");
    throw new SetupError(`cannot set up: not found on PATH: ${names}; install with: ${installer.install} ${packages}`);
  }
  return found;
}

/** @type {Record<Tool, (env: NodeJS.ProcessEnv) => string[] | undefined>} */
const FINDERS = {
  pip: findPip,
  cmake: (env) => commandLine(which("cmake", env)),
  compiler: findCompiler,
  make: (env) => commandLine(which("ninja", env) ?? which("make", env)),
};

/**
 * The file that `command` would start.
 *
 * @param {string} command
 * @param {NodeJS.ProcessEnv} env
 * @returns {string | undefined}
 */
export function which(command, env) {
  if (command.includes("/")) return isExecutable(command) ? command : undefined;
  return (env.PATH ?? "").split(delimiter).map((folder) => join(folder, command)).find(isExecutable);
}

/** @param {NodeJS.ProcessEnv} env */
function findPip(env) {
  for (const [command, ...args] of [["python3", "-m", "pip"], ["pip3"], ["pip"], ["python", "-m", "pip"]]) {
    const path = which(/** @type {string} */ (command), env);
    // A system's python3 often comes without the pip module.
    if (path && output(path, [...args, "--version"], env) !== undefined) return [path, ...args];
  }
  return undefined;
}

/** @param {NodeJS.ProcessEnv} env */
function findCompiler(env) {
  for (const command of env.CXX ? [env.CXX] : ["g++", "c++", "clang++"]) {
    const path = which(command, env);
    if (!path) continue;
    const version = output(path, ["-dumpversion"], env);
    const isGcc = /Free Software Foundation/.test(output(path, ["--version"], env) ?? "");
    if (version !== undefined && !(isGcc && Number.parseInt(version, 10) < OLDEST_GCC)) return [path];
  }
  return undefined;
}

/** @param {string | undefined} path */
function commandLine(path) {
  return path === undefined ? undefined : [path];
}

/**
 * @param {string} path
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {string | undefined} undefined when the program fails
 */
function output(path, args, env) {
  try {
    return execFileSync(path, args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch {
    return undefined; // present but not usable, which is what the caller asks
  }
}

/** @param {string} path */
function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false; // not there, or not ours to run
  }
}
