import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, totalmem } from "node:os";
import { basename, dirname, join } from "node:path";
import { taskNode } from "./packages.mjs";
import { ROOT } from "./paths.mjs";
import { runPart } from "./program.mjs";
import { say } from "./progress.mjs";
import { SetupError } from "./setup-error.mjs";

/** One compiler over libtorch's headers takes up to this much memory. */
const COMPILER_BYTES = 2.5e9;

/** What `buildAddon` works with. */
export const BUILD_TOOLS = /** @type {const} */ (["cmake", "compiler", "make"]);

/**
 * Builds the addons into `build/native` and writes there where libtorch lies (`libtorch.json`).
 * CMake decides what is out of date; with nothing to do it takes well under a second.
 *
 * @param {import("./libtorch.mjs").Libtorch} libtorch
 * @param {import("./tools.mjs").Tools} tools
 * @throws {SetupError} when CMake or the compiler fails
 */
export async function buildAddon(libtorch, tools) {
  const generator = tools.make[0]?.endsWith("ninja") ? "Ninja" : "Unix Makefiles";
  // A folder each: CMake refuses to change the generator of a folder.
  const folder = join(ROOT, "build/cmake", `${generator === "Ninja" ? "ninja" : "make"}-${libtorch.version}`);
  const unfinished = join(folder, "unfinished");
  // Killed outright in the middle, make would take a half-written object file for a finished one.
  if (existsSync(unfinished)) rmSync(folder, { recursive: true });
  mkdirSync(folder, { recursive: true });
  writeFileSync(unfinished, "");
  try {
    await configureAndCompile(libtorch, tools, folder, generator);
  } finally {
    rmSync(unfinished);
  }
  writeIfChanged(join(ROOT, "build/native/libtorch.json"), `${JSON.stringify(libtorch, null, 2)}\n`);
}

/**
 * @param {import("./libtorch.mjs").Libtorch} libtorch
 * @param {import("./tools.mjs").Tools} tools
 * @param {string} folder
 * @param {string} generator
 */
async function configureAndCompile(libtorch, tools, folder, generator) {
  const cmake = /** @type {string} */ (tools.cmake[0]);
  const require = createRequire(join(ROOT, "package.json"));
  await cmakePart("configuring", cmake, [
    "-S", join(ROOT, "native"), "-B", folder, "-G", generator,
    `-DCMAKE_MAKE_PROGRAM=${tools.make[0]}`, `-DCMAKE_CXX_COMPILER=${tools.compiler[0]}`,
    `-DTSCHAT_LIBTORCH=${libtorch.folder}`, `-DTSCHAT_OUTPUT=${join(ROOT, "build/native")}`,
    `-DTSCHAT_NODE_API_HEADERS=${join(dirname(require.resolve("node-api-headers/package.json")), "include")}`,
  ]);
  const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / COMPILER_BYTES)));
  await cmakePart("compiling", cmake, ["--build", folder, "--parallel", String(jobs)]);
}

/**
 * @param {string} what
 * @param {string} cmake
 * @param {string[]} args
 */
async function cmakePart(what, cmake, args) {
  /** @type {string[]} */
  const output = [];
  const exitCode = await runPart(cmake, args, {
    cwd: ROOT,
    onLine: (line) => {
      output.push(line);
      const step = /^\[ *(\d+%|\d+\/\d+)\] (Building|Linking).* (\S+)$/.exec(line);
      if (step) say(`addon: ${step[1]} ${basename(/** @type {string} */ (step[3]))}`);
    },
  });
  if (exitCode !== 0) throw new SetupError(`cannot build the addon: ${what} failed:\n${output.join("\n")}`);
}

/**
 * Compiles the TypeScript of a clone into `dist`.
 *
 * @throws {SetupError} on type errors, which tsc prints
 */
export async function buildTypeScript() {
  if (!existsSync(join(ROOT, "src"))) return; // an installed package brings dist
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc");
  if (!existsSync(join(ROOT, "dist"))) say("TypeScript: compiling");
  const exitCode = await runPart(taskNode(), [tsc, "--project", join(ROOT, "tsconfig.json")], { cwd: ROOT });
  if (exitCode !== 0) throw new SetupError("cannot build dist: the TypeScript compiler found the errors above");
}

/**
 * @param {string} file
 * @param {string} text
 */
function writeIfChanged(file, text) {
  if (!existsSync(file) || readFileSync(file, "utf8") !== text) writeFileSync(file, text);
}
