import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { describeFailure, epilogue, exitCodes } from "../../src/cli/exit-codes.ts";
import { commands } from "../../src/cli/program.ts";
import { CheckpointError, ConfigError, DistributedError, HubError, Interrupted, OutOfMemoryError } from "../../src/errors.ts";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "tschat-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The real command line in a process of its own. */
function tschat(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const env = { PATH: process.env["PATH"], HF_HUB_OFFLINE: "1" };
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], { cwd: folder, encoding: "utf8", env });
  return { status, stdout, stderr };
}

describe("tschat", () => {
  test("alone prints the commands, an example and the exit codes", () => {
    const { status, stdout, stderr } = tschat();
    expect([status, stderr]).toEqual([0, ""]);
    for (const { name } of commands) expect(stdout).toMatch(new RegExp(`^  ${name} \\[options\\]`, "m"));
    expect(stdout).toContain("Example:\n  tschat train ");
    expect(stdout).toContain(epilogue);
  });

  test("--version prints the version of the package", () => {
    expect(tschat("--version")).toEqual({ status: 0, stdout: "0.1.0\n", stderr: "" });
  });

  test.each(commands.map(({ name }) => name))("%s --help has groups, examples of that command and no duplicate flag", (name) => {
    const { status, stdout, stderr } = tschat(name, "--help");
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toMatch(new RegExp(`\\nExamples:\\n(  .*\\n)*  (tschat|npm run) ${name}`));
    const flags = [...stdout.matchAll(/^ {2}(?:-h, )?(--[\w-]+)/gm)].map(([, flag]) => flag);
    expect(new Set(flags).size).toBe(flags.length);
    expect(flags).toContain("--help");
  });
});

describe("bad settings print one message and exit with 2:", () => {
  writeFileSync(join(folder, "typo.yaml"), "model: m\nppo:\n  klCoeff: 1\n");
  const sft = ["sft", "--model", "m", "--data", "d", "--output", "o"];
  test.each([
    [["sfft"], "unknown command sfft; did you mean sft?\n"],
    [["ppo", "--kl-coeff", "1"], "unknown flag --kl-coeff; did you mean --kl-coef?\n"],
    [[...sft, "--learning-rate", "fast"], '--learning-rate: expected a number of at least 0, got "fast"\n'],
    [[...sft, "--epochs", "0"], "--epochs: expected a whole number of at least 1, got 0\n"],
    [[...sft, "--dtype", "fp16"], '--dtype: expected one of auto, float32, bfloat16, got "fp16"\n'],
    [[...sft, "--config", "none.yaml"], "could not read the settings file none.yaml: no such file or directory\n"],
    [["train", "--config", "typo.yaml"], "typo.yaml:3: ppo.klCoeff: unknown setting; did you mean klCoef?\n"],
    [["train", "--kl-coef", "1"], "unknown flag --kl-coef; settings of one step carry its name: --ppo.kl-coef\n"],
    [["train", "--output", "o", "--step", "4"], '--step: expected one or more of sft, reward, ppo, got ["4"]\n'],
    [["chat"], "--model: required: model to talk with: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub\n"],
    [["chat", "m", "--top-p", "0"], "--top-p: expected a number above 0 and at most 1, got 0\n"],
    [["quickstart"], "--model: required: SmolLM2-135M-Instruct; npm run quickstart fetches it and passes it\n"],
  ])("%j", (args, message) => {
    expect(tschat(...args)).toEqual({ status: 2, stdout: "", stderr: message });
  });
});

describe("describeFailure", () => {
  test.each([
    [new ConfigError("c"), { message: "c", exitCode: 2 }],
    [new CheckpointError("c"), { message: "c", exitCode: 2 }],
    [new HubError("h"), { message: "h", exitCode: 1 }],
    [new Interrupted(3, "f"), { message: "interrupted after step 3; the model is saved in f", exitCode: 130 }],
    [new DistributedError("d"), { message: "DistributedError: d\n(TSCHAT_DEBUG=1 prints the whole error)", exitCode: 1 }],
    [new OutOfMemoryError("m"), { message: "OutOfMemoryError: m\n(TSCHAT_DEBUG=1 prints the whole error)", exitCode: 1 }],
    ["text", { message: "text\n(TSCHAT_DEBUG=1 prints the whole error)", exitCode: 1 }],
  ])("%s", (error, expected) => {
    expect(describeFailure(error)).toEqual(expected);
  });
});

test("the help text lists every exit code", () => {
  for (const code of Object.values(exitCodes)) expect(epilogue).toMatch(new RegExp(`^  ${code} `, "m"));
});
