import { rmSync } from "node:fs";
import { join } from "node:path";
import { BUILD_TOOLS, buildAddon, buildTypeScript } from "./build.mjs";
import { checkProject } from "./check.mjs";
import { ensureLibtorch, needsDownload, requirePlatform } from "./libtorch.mjs";
import { withLock } from "./lock.mjs";
import { ensureModel } from "./model.mjs";
import { ensurePackages, taskNode } from "./packages.mjs";
import { ROOT } from "./paths.mjs";
import { runProgram } from "./program.mjs";
import { Interrupted, SetupError } from "./setup-error.mjs";
import { runTests } from "./test.mjs";
import { findTools } from "./tools.mjs";

/** @type {Record<string, { summary: string, run: (args: string[]) => Promise<number> }>} */
const TASKS = {
  setup: { summary: "install the npm dependencies and libtorch", run: done(setUp) },
  build: { summary: "set up, then build the addon and dist", run: done(build) },
  test: { summary: "build, then run the tests [vitest arguments]", run: after(build, runTests) },
  check: { summary: "lint, types, line report", run: after(() => inClone(ensurePackages), checkProject) },
  quickstart: { summary: "build, get the model, then train and show the result", run: after(build, quickstart) },
  tschat: { summary: "build, then run the command line [its arguments]", run: after(build, startCli) },
  bench: { summary: "build, then measure generation [its arguments]", run: after(build, startBench) },
  model: { summary: "get the quickstart's model and print its path", run: printModel },
  clean: { summary: "remove what was built (downloads are kept)", run: done(clean) },
};

/**
 * Runs a task and ends the process with its exit code.
 *
 * @param {string | undefined} name
 * @param {string[]} args
 */
export async function runTask(name, args) {
  const task = name === undefined || !Object.hasOwn(TASKS, name) ? undefined : TASKS[name];
  try {
    if (task === undefined) throw new SetupError(`${name === undefined ? "no task given" : `unknown task ${name}`}\n${usage()}`);
    process.exitCode = await task.run(args);
  } catch (error) {
    if (error instanceof Interrupted) process.exitCode = error.exitCode;
    else if (error instanceof SetupError) {
      process.stderr.write(`[tschat] ${error.message}\n`);
      process.exitCode = 1;
    } else throw error;
  }
}

function usage() {
  const lines = Object.entries(TASKS).map(([name, { summary }]) => `  ${name.padEnd(11)} ${summary}`);
  return `usage: node scripts/run.mjs TASK [arguments]\n${lines.join("\n")}`;
}

/**
 * @param {() => Promise<void>} action
 * @returns {(args: string[]) => Promise<number>}
 */
function done(action) {
  return after(action, async () => 0);
}

/**
 * @param {() => Promise<void>} preparation
 * @param {(args: string[]) => Promise<number>} action
 * @returns {(args: string[]) => Promise<number>}
 */
function after(preparation, action) {
  return async (args) => {
    await preparation();
    return action(args);
  };
}

/**
 * Two tasks started at once in one clone must not install or build into each other's files.
 *
 * @param {() => Promise<void>} action
 */
function inClone(action) {
  return withLock(join(ROOT, "build/setup.lock"), action);
}

async function setUp() {
  await inClone(async () => {
    requirePlatform();
    await ensurePackages();
    await ensureLibtorch();
  });
}

async function build() {
  await inClone(async () => {
    requirePlatform();
    await ensurePackages();
    // Everything that is missing is named at once, before the long download.
    const tools = findTools([...BUILD_TOOLS, ...(needsDownload() ? /** @type {const} */ (["pip"]) : [])]);
    await buildAddon(await ensureLibtorch(), tools);
    await buildTypeScript();
  });
}

/** @param {string[]} args */
async function quickstart(args) {
  const isModelNeeded = !args.some((arg) => /^(--help|-h|--model(=.*)?)$/.test(arg));
  return startCli(["quickstart", ...(isModelNeeded ? ["--model", await ensureModel()] : []), ...args]);
}

/** @param {string[]} args */
async function startCli(args) {
  return runProgram(taskNode(), [join(ROOT, "dist/cli/main.js"), ...args]);
}

/** @param {string[]} args */
async function startBench(args) {
  return runProgram(taskNode(), [join(ROOT, "bench/main.ts"), ...args]);
}

async function printModel() {
  process.stdout.write(`${await ensureModel()}\n`);
  return 0;
}

async function clean() {
  for (const folder of ["build", "dist"]) rmSync(join(ROOT, folder), { recursive: true, force: true });
}
