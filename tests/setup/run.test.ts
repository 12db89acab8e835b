import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { temporaryFolder } from "../temporary-folder.ts";

const SCRIPTS = fileURLToPath(new URL("../../scripts", import.meta.url));

function runTask(args: string[], env: NodeJS.ProcessEnv) {
  return spawnSync(process.execPath, [join(SCRIPTS, "run.mjs"), ...args], { env: { ...process.env, ...env }, encoding: "utf8" });
}

/** A PATH with Node alone. */
function bareFolder(): string {
  const folder = join(temporaryFolder(), "bin");
  mkdirSync(folder);
  symlinkSync(process.execPath, join(folder, "node"));
  return folder;
}

describe("scripts/run.mjs", () => {
  test("lists the tasks when it is given none or an unknown one", () => {
    const { status, stderr } = runTask(["quikstart"], {});
    expect(status).toBe(1);
    expect(stderr).toMatch(/^\[tschat\] unknown task quikstart\nusage: node scripts\/run\.mjs TASK/);
    expect(stderr).toMatch(/ {2}quickstart {2}build/);
    expect(runTask([], {}).stderr).toMatch(/no task given/);
  });

  test.skipIf(process.platform !== "linux")("names a missing pip in one message without a stack", () => {
    const { status, stderr } = runTask(["setup"], { PATH: bareFolder(), TSCHAT_CACHE: temporaryFolder(), TSCHAT_LIBTORCH: "" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^\[tschat\] cannot set up: not found on PATH: pip of Python 3 .*; install with: \S.* python3-pip\n$/);
  });

  test("names the missing build tools before it downloads anything", () => {
    const { status, stderr } = runTask(["build"], { PATH: bareFolder(), TSCHAT_CACHE: temporaryFolder(), TSCHAT_LIBTORCH: "" });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^\[tschat\] cannot set up: not found on PATH: CMake, .*Ninja or make, pip .*\n$/);
  });

  test.skipIf(process.platform !== "linux")("names a TSCHAT_LIBTORCH that is none", () => {
    const { status, stderr } = runTask(["setup"], { PATH: bareFolder(), TSCHAT_LIBTORCH: temporaryFolder() });
    expect(status).toBe(1);
    expect(stderr).toMatch(/^\[tschat\] cannot use libtorch in .*\n$/);
  });
});

describe("runProgram and runPart", () => {
  // The program says that it is ready, and then takes its time to end with 42 after a SIGTERM.
  const program = "process.on('SIGTERM', () => process.exit(42)); console.log('ready'); setInterval(() => {}, 1000)";
  const parent = (call: string) =>
    `import { runPart, runProgram } from ${JSON.stringify(join(SCRIPTS, "lib/program.mjs"))};` +
    `${call}(process.execPath, ["-e", ${JSON.stringify(program)}])` +
    ".then((code) => process.exit(code), (error) => process.exit(error.exitCode));";

  test.each([
    ["runProgram", 42, "the program's own exit code"],
    ["runPart", 143, "128 plus the signal's number"],
  ])("%s passes a signal on, waits, and ends with %i: %s", async (call, expected) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", parent(call)], { stdio: ["ignore", "pipe", "inherit"] });
    child.stdout.once("data", () => child.kill("SIGTERM"));
    expect(await new Promise((resolve) => child.once("close", resolve))).toBe(expected);
  });
});
