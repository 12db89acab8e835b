import { describe, expect, test } from "vitest";
import { reportLines } from "../../scripts/lib/check.mjs";
import { countTests } from "../../scripts/lib/test.mjs";

const passed = { status: "passed" };
const failed = { status: "failed" };

describe("countTests", () => {
  test("counts tests", () => {
    const files = [{ status: "failed", assertionResults: [passed, passed, passed, failed] }];
    const report = { numPassedTests: 3, numFailedTests: 1, testResults: files };
    expect(countTests(JSON.stringify(report), 1)).toEqual({ passed: 3, failed: 1 });
  });

  test("counts a file that does not load as one failure", () => {
    const files = [{ status: "failed", assertionResults: [] }, { status: "passed", assertionResults: [passed] }];
    expect(countTests(JSON.stringify({ numPassedTests: 1, numFailedTests: 0, testResults: files }), 1)).toEqual({ passed: 1, failed: 1 });
  });

  test("never reports success for a run that failed", () => {
    const report = { numPassedTests: 1, numFailedTests: 0, testResults: [{ status: "passed", assertionResults: [passed] }] };
    expect(countTests(JSON.stringify(report), 0)).toEqual({ passed: 1, failed: 0 });
    expect(countTests(JSON.stringify(report), 139)).toEqual({ passed: 1, failed: 1 });
    expect(countTests(undefined, 1)).toEqual({ passed: 0, failed: 1 });
  });
});

describe("reportLines", () => {
  test("lists the largest files first and counts lines without the final newline", () => {
    const { lines, problems } = reportLines([{ path: "a.ts", text: "1\n2\n" }, { path: "b.ts", text: "1\n2\n3\n" }]);
    expect(lines).toEqual(["2 files, 5 lines; the largest:", "    3 b.ts", "    2 a.ts"]);
    expect(problems).toEqual([]);
  });

  test("finds files over 500 lines and lines over 140 columns", () => {
    const long = `${"x".repeat(140)}\n${"x".repeat(141)}\n`;
    const { problems } = reportLines([{ path: "a.ts", text: "x\n".repeat(501) }, { path: "b.ts", text: long }]);
    expect(problems).toEqual(["a.ts: 501 lines, the limit is 500", "b.ts:2: 141 columns, the limit is 140"]);
  });
});
