import { closeSync, existsSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { inPipelineFolder, stepRunner, type StepRunOptions } from "../../src/cli/step-run.ts";
import { completeConfig } from "../../src/config/resolve.ts";
import type { TrainStep } from "../../src/config/step.ts";
import { Interrupted } from "../../src/errors.ts";
import { rewardSettings } from "../../src/reward/config.ts";
import { sftSettings, type SftConfig } from "../../src/sft/config.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

/** What was printed, with times replaced by T. */
class Printed extends Writable {
  text = "";

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += String(chunk);
    done();
  }

  get lines(): string[] {
    return this.text.trimEnd().split("\n").map((line) => line.replace(/[\d.]+ s/g, "T"));
  }
}

function setUp(options: Partial<StepRunOptions> = {}, folder = temporaryFolder()) {
  const output = new Printed();
  const runStep = stepRunner({ reuses: true, restarts: false, stopRequested: () => false, output, ...options });
  const sft = (values: Partial<SftConfig> = {}): SftConfig =>
    completeConfig(sftSettings, { model: "m", data: ["d"], output: join(folder, "sft"), ...values });
  return { output, runStep, sft, folder };
}

/** Two steps with two metrics, one of which is shown. */
const twoSteps: TrainStep<SftConfig, { perplexity: number }> = async ({ epochs }, run) => {
  run.start(2, ["loss", "absent"]);
  run.log(1, { loss: 2, gradientNorm: 0.5 });
  run.sample({ step: 1, text: "hello" });
  run.note("halfway");
  run.log(2, { loss: 1, gradientNorm: 0.25 });
  return { perplexity: epochs };
};

const rows = (path: string): Record<string, unknown>[] =>
  readFileSync(path, "utf8").trim().split("\n").map((line) => {
    const { time: _, ...row } = JSON.parse(line) as Record<string, unknown>;
    return row;
  });

/** The log of rank 0, with its times replaced by T. */
const logLines = (folder: string): string[] =>
  readFileSync(join(folder, "rank-0.log"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /, "T ").replace(/[\d.]+ s\b/g, "T"));

test("a step writes settings, metrics, samples, logs and a summary, and shows its key figures", async () => {
  const { output, runStep, sft, folder } = setUp();
  expect(await runStep(sftSettings, sft({ epochs: 3 }), twoSteps)).toMatchObject({ perplexity: 3 });
  const path = (name: string): string => join(folder, "sft", name);
  expect(rows(path("metrics.jsonl"))).toEqual([{ step: 1, loss: 2, gradientNorm: 0.5 }, { step: 2, loss: 1, gradientNorm: 0.25 }]);
  expect(rows(path("samples.jsonl"))).toEqual([{ step: 1, text: "hello" }]);
  expect(readFileSync(path("config.yaml"), "utf8")).toMatch(/^#.*\nsft:\n {2}model: m\n/);
  expect(JSON.parse(readFileSync(path("summary.json"), "utf8"))).toMatchObject({ perplexity: 3 });
  expect(existsSync(path("run.lock"))).toBe(false);
  expect(logLines(path(""))).toEqual([
    "T sft: 2 steps", "T step 1  loss 2  gradient norm 0.5", "T halfway", "T step 2  loss 1  gradient norm 0.25",
    `T sft: finished in T, see ${folder}/sft`,
  ]);
  const events = readdirSync(path("tensorboard"));
  expect(events).toEqual([expect.stringMatching(/^events\.out\.tfevents\.\d{10}\..+/)]);
  expect(readFileSync(path(`tensorboard/${events[0]}`), "latin1").match(/loss|gradientNorm/g)).toEqual(
    ["loss", "gradientNorm", "loss", "gradientNorm"],
  );
  expect(output.lines).toEqual(["sft 1/2  eta T  loss 2", "halfway", "sft 2/2  took T  loss 1", `sft: finished in T, see ${folder}/sft`]);
});

describe("a finished step", () => {
  test("is reused when its settings are the same, or differ only in what cannot change the result", async () => {
    const { output, runStep, sft } = setUp();
    await runStep(sftSettings, sft(), twoSteps);
    let calls = 0;
    const results = await runStep(sftSettings, sft({ logEvery: 5, threads: 1 }), async () => ({ perplexity: ++calls }));
    expect(results.perplexity).toBe(1); // the summary's, which twoSteps wrote
    expect(calls).toBe(0);
    expect(output.lines.at(-1)).toMatch(/^sft: finished before, reused from /);
  });

  test("is not reused with other settings: they would not be honoured", async () => {
    const { runStep, sft, folder } = setUp();
    await runStep(sftSettings, sft(), twoSteps);
    expect(await rejection(() => runStep(sftSettings, sft({ epochs: 2, maxSteps: 5 }), twoSteps))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: `${folder}/sft was trained with other settings: maxSteps was not set, now 5; epochs was 1, now 2; ` +
        "go back to them, choose another --output, or --force to train again",
    });
    const inputs = { model: folder, data: [folder, "org/pairs@main:test"] }; // what the hub has was fetched before
    expect((await runStep(sftSettings, sft({ ...inputs, epochs: 2, force: true }), twoSteps)).perplexity).toBe(2);
  });

  test("is not replaced, not even with --force, while an input is missing", async () => {
    const { runStep, sft, folder } = setUp();
    await runStep(sftSettings, sft(), twoSteps);
    const mistyped = sft({ model: folder, data: [folder, "missing.jsonl"], force: true });
    expect(await rejection(() => runStep(sftSettings, mistyped, twoSteps))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: `--data: no such file or folder: missing.jsonl; what ${folder}/sft holds was left as it is`,
    });
    expect(existsSync(join(folder, "sft", "summary.json"))).toBe(true);
  });

  test("is not reused when its input was trained again afterwards", async () => {
    const { runStep, sft, folder } = setUp();
    const reward = completeConfig(rewardSettings, { model: join(folder, "sft", "model"), data: ["d"], output: join(folder, "reward") });
    await runStep(sftSettings, sft(), twoSteps);
    await runStep(rewardSettings, reward, async () => ({ accuracy: 0.5 }));
    expect(await runStep(rewardSettings, reward, async () => ({ accuracy: 0.6 }))).toMatchObject({ accuracy: 0.5 });
    rmSync(join(folder, "sft"), { recursive: true });
    const finishedBefore = Date.now();
    while (Date.now() === finishedBefore); // the summary's clock counts milliseconds
    await runStep(sftSettings, sft(), twoSteps);
    expect((await rejection(() => runStep(rewardSettings, reward, async () => ({ accuracy: 0.6 })))).message).toMatch(
      /reward was trained before its input .*sft\/model was trained again; --force with --step/,
    );
  });

  test("is an error for a command that trains one step", async () => {
    const { runStep, sft } = setUp({ reuses: false });
    await runStep(sftSettings, sft(), twoSteps);
    expect((await rejection(() => runStep(sftSettings, sft(), twoSteps))).message).toContain("holds a finished run");
  });
});

describe("a step that stops early", () => {
  const stopping: TrainStep<SftConfig> = async (_, run) => {
    run.start(10, []);
    run.log(1, { loss: NaN });
    if (!run.stopRequested()) throw new RangeError("mine");
    throw new Interrupted(1, run.checkpointFolder(1));
  };

  test("by a signal says where it saved, is not finished, and lets go of the folder", async () => {
    const { runStep, sft, folder } = setUp({ stopRequested: () => true });
    expect(await rejection(() => runStep(sftSettings, sft(), stopping))).toEqual({
      name: "Interrupted", code: "E_INTERRUPTED",
      message: `interrupted after step 1; the model is saved in ${folder}/sft/checkpoint-000001`,
    });
    expect(existsSync(join(folder, "sft", "summary.json"))).toBe(false);
    expect(existsSync(join(folder, "sft", "run.lock"))).toBe(false);
    expect(rows(join(folder, "sft", "metrics.jsonl"))).toEqual([{ step: 1, loss: null, nonFinite: ["loss"] }]);
    expect(logLines(join(folder, "sft"))).toEqual([
      "T sft: 10 steps", "T step 1  loss NaN", `T interrupted after step 1; the model is saved in ${folder}/sft/checkpoint-000001`,
    ]);
  });

  test("by an error lets it through and lets go of the folder", async () => {
    const { runStep, sft, folder } = setUp();
    expect(await rejection(() => runStep(sftSettings, sft(), stopping))).toMatchObject({ name: "RangeError", message: "mine" });
    expect(existsSync(join(folder, "sft", "run.lock"))).toBe(false);
    const [, , error, firstCall] = logLines(join(folder, "sft"));
    expect(error).toBe("T ended by RangeError: mine");
    expect(firstCall).toContain("step-run.test.ts"); // the stack
  });

  test.skipIf(!existsSync("/dev/full") || !existsSync("/proc/self/fd"))("by an error that cannot be logged shows both", async () => {
    const { output, runStep, sft } = setUp();
    const onFullDisk: TrainStep<SftConfig> = async (_, run) => {
      const path = join(run.folder, "rank-0.log");
      const opened = readdirSync("/proc/self/fd").map(Number)
        .find((file) => existsSync(`/proc/self/fd/${file}`) && readlinkSync(`/proc/self/fd/${file}`) === path);
      closeSync(opened ?? -1);
      expect(openSync("/dev/full", "a")).toBe(opened); // the lowest number that is free
      throw new RangeError("mine");
    };
    expect(await rejection(() => runStep(sftSettings, sft(), onFullDisk))).toMatchObject({ name: "RangeError", message: "mine" });
    expect(output.text).toMatch(/^ConfigError: could not write .*\/sft\/rank-0\.log: no space left on device\n$/);
  });
});

test("several steps share a folder whose summary holds their results", async () => {
  const { runStep, sft, folder } = setUp();
  const results = await inPipelineFolder(folder, { output: folder }, async () => ({ sft: await runStep(sftSettings, sft(), twoSteps) }));
  expect(results).toMatchObject({ sft: { perplexity: 1 } });
  expect(JSON.parse(readFileSync(join(folder, "summary.json"), "utf8"))).toMatchObject({ sft: { perplexity: 1 } });
  expect(readFileSync(join(folder, "config.yaml"), "utf8")).toContain(`output: ${folder}`);
});
