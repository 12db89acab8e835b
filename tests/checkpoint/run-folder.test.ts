import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { lockWhenFree } from "../../src/checkpoint/lock.ts";
import { openPipeline, openRun, readSummary, type RunFolder, type RunOptions } from "../../src/checkpoint/run-folder.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const open = (folder: string, replaces: RunOptions["replaces"] = "nothing"): Promise<RunFolder> =>
  openRun(folder, { config: "sft: {}\n", replaces });

/** A folder with what an interrupted run leaves: settings, metrics, logs and two checkpoints. */
async function interruptedRun(): Promise<string> {
  const folder = join(temporaryFolder(), "sft");
  const run = await open(folder);
  writeFileSync(run.metricsFile, "{}\n");
  mkdirSync(run.tensorboardFolder);
  writeFileSync(join(run.tensorboardFolder, "events.out.tfevents.1.host"), "");
  for (const rank of [0, 12]) writeFileSync(run.rankLogFile(rank), "");
  for (const step of [7, 123]) mkdirSync(run.checkpointFolder(step));
  await run.close();
  return folder;
}

test("a run folder has its files under fixed names, and is finished when it has a summary", async () => {
  const folder = join(temporaryFolder(), "runs", "first");
  const run = await open(folder);
  expect(readFileSync(join(folder, "config.yaml"), "utf8")).toBe("sft: {}\n");
  expect([run.metricsFile, run.samplesFile, run.modelFolder, run.checkpointFolder(123), run.checkpointFolder(1234567)]).toEqual(
    ["metrics.jsonl", "samples.jsonl", "model", "checkpoint-000123", "checkpoint-1234567"].map((name) => join(folder, name)),
  );
  expect([run.tensorboardFolder, run.rankLogFile(0), run.rankLogFile(12)]).toEqual(
    ["tensorboard", "rank-0.log", "rank-12.log"].map((name) => join(folder, name)),
  );
  expect(await readSummary(folder)).toBeUndefined();
  await run.markFinished({ perplexity: 3.5 });
  await run.close();
  const summary = await readSummary(folder);
  expect(summary).toEqual({ finishedAt: summary?.finishedAt, perplexity: 3.5 });
  expect(new Date(summary?.finishedAt ?? "").getTime()).toBeGreaterThan(Date.now() - 60_000);
  expect(readdirSync(folder).sort()).toEqual(["config.yaml", "summary.json"]);
});

test("a damaged summary is an error, not an unfinished run", async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "summary.json"), "{");
  expect(await rejection(() => readSummary(folder))).toEqual({
    name: "ConfigError", code: "E_CONFIG", message: `${folder}/summary.json: not valid JSON; remove the file to train again`,
  });
});

describe("an earlier run", () => {
  test("with checkpoints is replaced only when the user says so", async () => {
    const folder = await interruptedRun();
    expect(await rejection(() => open(folder))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: `--output: ${folder} holds an interrupted run with checkpoint-000123; ` +
        "choose another folder, or --force to start over and lose it",
    });
    expect(existsSync(join(folder, "checkpoint-000123"))).toBe(true);
    await (await open(folder, "interrupted")).close();
    expect(readdirSync(folder)).toEqual(["config.yaml"]);
  });

  test("that saved nothing is replaced at once", async () => {
    const folder = join(temporaryFolder(), "sft");
    const run = await open(folder);
    writeFileSync(run.metricsFile, "{}\n");
    await run.close();
    await (await open(folder)).close();
    expect(readdirSync(folder)).toEqual(["config.yaml"]);
  });

  test("that is finished is replaced only by force, and other files stay", async () => {
    const folder = await interruptedRun();
    const run = await open(folder, "interrupted");
    mkdirSync(run.modelFolder);
    writeFileSync(join(folder, "notes.txt"), "mine");
    await run.markFinished({});
    await run.close();
    for (const replaces of ["nothing", "interrupted"] as const) {
      expect((await rejection(() => open(folder, replaces))).message).toBe(
        `--output: ${folder} holds a finished run; choose another folder, or --force to train again and replace it`,
      );
    }
    await (await open(folder, "finished")).close();
    expect(readdirSync(folder).sort()).toEqual(["config.yaml", "notes.txt"]);
  });

  test("is not what a folder with other things is: it is left alone", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "thesis.txt"), "");
    expect((await rejection(() => open(folder, "finished"))).message).toBe(
      `--output: ${folder} is not a run folder and not empty (it holds thesis.txt); choose another`,
    );
    expect(readdirSync(folder)).toEqual(["thesis.txt"]); // the lock is given back too
  });

  test("of several steps keeps the steps, and refuses the folder of a single one", async () => {
    const folder = temporaryFolder();
    const outer = await openPipeline(folder, "step: [sft]\n");
    const inner = await open(join(folder, "sft"));
    await inner.markFinished({});
    await inner.close();
    await outer.markFinished({});
    await outer.close();
    await (await openPipeline(folder, "step: [ppo]\n")).close();
    expect(await readSummary(folder)).toBeUndefined();
    expect(await readSummary(join(folder, "sft"))).toBeDefined();
    expect(readFileSync(join(folder, "config.yaml"), "utf8")).toBe("step: [ppo]\n");

    mkdirSync(join(folder, "sft", "model"));
    expect((await rejection(() => openPipeline(join(folder, "sft"), ""))).message).toContain("holds the run of a single step");
  });

  test("that crashed in the middle of a save is cleaned up", async () => {
    const folder = await interruptedRun();
    mkdirSync(join(folder, ".model.tmp-1"));
    await (await open(folder, "interrupted")).close();
    expect(readdirSync(folder)).toEqual(["config.yaml"]);
  });
});

describe("the lock", () => {
  const lock = (folder: string, holder: object | string): void =>
    writeFileSync(join(folder, "run.lock"), typeof holder === "string" ? holder : JSON.stringify(holder));

  test("keeps a second run out until the first closes", async () => {
    const folder = temporaryFolder();
    const run = await open(folder);
    expect(await rejection(() => open(folder, "finished"))).toEqual({
      name: "ConfigError", code: "E_CONFIG", message: `--output: another run is using ${folder}: process ${process.pid}`,
    });
    await run.close();
    await (await open(folder)).close();
    expect(existsSync(join(folder, "run.lock"))).toBe(false);
  });

  test("of a process that has ended is taken over", async () => {
    const folder = temporaryFolder();
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    lock(folder, { pid, host: hostname() });
    await (await open(folder)).close();
  });

  test.skipIf(!existsSync("/proc/self/stat"))("of a process whose id now belongs to another one is taken over", async () => {
    const folder = temporaryFolder();
    lock(folder, { pid: process.pid, host: hostname(), started: "1" });
    await (await open(folder)).close();
  });

  test("that was cut off while it was written is taken over", async () => {
    for (const text of ["", '{"pid":']) {
      const folder = temporaryFolder();
      lock(folder, text);
      await (await open(folder)).close();
    }
  });

  test("of another machine cannot be judged and is respected", async () => {
    const folder = temporaryFolder();
    lock(folder, { pid: 1, host: "elsewhere" });
    expect((await rejection(() => open(folder))).message).toBe(
      `--output: another run is using ${folder}: process 1 on elsewhere; if that process has ended, remove ${folder}/run.lock`,
    );
  });
});

describe("a lock that is waited for", () => {
  test("is had when its holder gives it back, and the holder is named once", async () => {
    const path = join(temporaryFolder(), "some.lock");
    const holders: string[] = [], order: string[] = [];
    const unlock = await lockWhenFree(path);
    const second = lockWhenFree(path, { onWait: (holder) => holders.push(holder) }).then((release) => {
      order.push("second");
      return release();
    });
    while (holders.length === 0) await new Promise((resolve) => { setImmediate(resolve); });
    order.push("first");
    await unlock();
    await second;
    expect(order).toEqual(["first", "second"]);
    expect(holders).toEqual([`process ${process.pid}`]);
    expect(existsSync(path)).toBe(false);
  });

  test("is given up at a signal", async () => {
    const path = join(temporaryFolder(), "some.lock");
    await lockWhenFree(path);
    const controller = new AbortController();
    await expect(lockWhenFree(path, { signal: controller.signal, onWait: () => controller.abort() })).rejects.toThrow(/aborted/);
    expect(existsSync(path)).toBe(true); // it is still the first one's
  });

  test("that was made just now and is still empty is not taken for a dead one's", async () => {
    const path = join(temporaryFolder(), "some.lock");
    writeFileSync(path, "");
    const holders: string[] = [];
    const controller = new AbortController();
    const waiting = lockWhenFree(path, {
      signal: controller.signal,
      onWait: (holder) => {
        holders.push(holder);
        controller.abort();
      },
    });
    writeFileSync(path, JSON.stringify({ pid: process.pid, host: hostname() }));
    await expect(waiting).rejects.toThrow(/aborted/);
    expect(holders).toEqual([`process ${process.pid}`]);
  });
});
