import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { taskNode } from "./packages.mjs";
import { ROOT } from "./paths.mjs";
import { runProgram } from "./program.mjs";

const FOLDERS = ["src", "native", "scripts", "tests", "examples", "bench"];
const SOURCE = /\.(ts|mts|mjs|js|cc|h)$/;
const MAX_LINES = 500;
const MAX_COLUMNS = 140;
const SHOWN = 10;

/**
 * Lint, types of sources and tests, and the sizes of files and lines. All three run, so that one call shows everything.
 *
 * @returns {Promise<number>} exit code
 */
export async function checkProject() {
  const bin = (/** @type {string} */ path) => join(ROOT, "node_modules", path);
  const lint = await runProgram(taskNode(), [bin("@biomejs/biome/bin/biome"), "lint", "--error-on-warnings"], { cwd: ROOT });
  const types = await runProgram(taskNode(), [bin("typescript/bin/tsc"), "--project", "tsconfig.check.json"], { cwd: ROOT });
  const sources = FOLDERS.flatMap((folder) => readSources(folder));
  const { lines, problems } = reportLines(sources);
  process.stdout.write(`${[...lines, ...problems].join("\n")}\n`);
  return lint === 0 && types === 0 && problems.length === 0 ? 0 : 1;
}

/**
 * @typedef {object} Source
 * @property {string} path
 * @property {string} text
 */

/**
 * The largest files; files over 500 lines and lines over 140 columns are problems.
 *
 * @param {readonly Source[]} sources
 * @returns {{ lines: string[], problems: string[] }}
 */
export function reportLines(sources) {
  const sizes = sources.map(({ path, text }) => ({ path, count: text.trimEnd().split("\n").length }));
  sizes.sort((a, b) => b.count - a.count);
  const total = sizes.reduce((sum, { count }) => sum + count, 0);
  const lines = [`${sizes.length} files, ${total} lines; the largest:`];
  for (const { path, count } of sizes.slice(0, SHOWN)) lines.push(`${String(count).padStart(5)} ${path}`);
  const large = sizes.filter(({ count }) => count > MAX_LINES);
  const tooLarge = large.map(({ path, count }) => `${path}: ${count} lines, the limit is ${MAX_LINES}`);
  return { lines, problems: [...tooLarge, ...sources.flatMap(longLines)] };
}

/**
 * @param {Source} source
 * @returns {string[]} one problem for each line that is too long
 */
function longLines({ path, text }) {
  return text.split("\n").flatMap((line, index) =>
    line.length > MAX_COLUMNS ? [`${path}:${index + 1}: ${line.length} columns, the limit is ${MAX_COLUMNS}`] : [],
  );
}

/**
 * @param {string} folder
 * @returns {Source[]}
 */
function readSources(folder) {
  if (!existsSync(join(ROOT, folder))) return []; // git keeps no empty folders
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).filter((name) => SOURCE.test(name)).sort();
  return names.map((name) => ({ path: `${folder}/${name}`, text: readFileSync(join(ROOT, folder, name), "utf8") }));
}
