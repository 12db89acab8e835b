import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { taskNode } from "./packages.mjs";
import { ROOT } from "./paths.mjs";
import { runProgram } from "./program.mjs";

/**
 * Runs the tests; the last line of the output is `N passed, N failed`.
 *
 * @param {string[]} args of vitest: names of files, `-t` and so on
 * @returns {Promise<number>} exit code
 */
export async function runTests(args) {
  const report = join(ROOT, "build/test-report.json");
  rmSync(report, { force: true });
  const vitest = join(ROOT, "node_modules/vitest/vitest.mjs");
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  const exitCode = await runProgram(taskNode(), [vitest, "run", ...reporters, ...args], { cwd: ROOT });
  const { passed, failed } = countTests(existsSync(report) ? readFileSync(report, "utf8") : undefined, exitCode);
  process.stdout.write(`${passed} passed, ${failed} failed\n`);
  return failed > 0 && exitCode === 0 ? 1 : exitCode;
}

/**
 * Counts tests in vitest's JSON report. A file that does not load has no tests: it counts as one failure;
 * so does a run that failed in any other way, such as a crash of vitest or an error outside of the tests.
 *
 * @param {string | undefined} report
 * @param {number} exitCode
 * @returns {{ passed: number, failed: number }}
 */
export function countTests(report, exitCode) {
  let passed = 0;
  let failed = 0;
  if (report !== undefined) {
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(report);
    passed = numPassedTests;
    failed = numFailedTests;
    for (const { status, assertionResults } of testResults) {
      const hasFailure = assertionResults.some((/** @type {{ status: string }} */ test) => test.status === "failed");
      if (status === "failed" && !hasFailure) failed++;
    }
  }
  return { passed, failed: failed === 0 && exitCode !== 0 ? 1 : failed };
}
