import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { pairFile, type Running, smallSteps, start, tinyModel, tschat } from "./cli.ts";

/** A run of SFT that would take hours. */
function startSft(folder: string): Running {
  return start([
    "sft",
    "--model",
    tinyModel(folder),
    "--data",
    pairFile(folder),
    "--output",
    join(folder, "sft"),
    "--max-steps",
    "100000",
    ...smallSteps,
  ]);
}

/** Process id of the rank that trains in `folder`, from its lock. */
function rankOf(folder: string): number {
  return (JSON.parse(readFileSync(join(folder, "run.lock"), "utf8")) as { pid: number }).pid;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The checkpoint that an interrupted run names, whose model loads. */
async function savedBy({ err }: { err: string }): Promise<{ step: number; folder: string }> {
  const [, step, folder = ""] = /^interrupted after step (\d+); the model is saved in (\S+)\n$/.exec(err) ?? [];
  expect(folder, err).not.toBe("");
  expect((await CausalLM.load(folder, { dtype: "float32" })).numParameters).toBeGreaterThan(0);
  return { step: Number(step), folder };
}

describe("a signal to the command line while a rank trains", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("%s finishes the step, saves it and exits with 130", async (signal) => {
    const folder = temporaryFolder(),
      running = startSft(folder);
    await running.printed(/^sft 3\//m);
    const rank = rankOf(join(folder, "sft"));
    running.process.kill(signal);
    const end = await running.end;
    expect(end.code).toBe(130);
    const { step, folder: checkpoint } = await savedBy(end);
    expect(checkpoint).toBe(join(folder, "sft", `checkpoint-${String(step).padStart(6, "0")}`));
    const lines = readFileSync(join(folder, "sft", "metrics.jsonl"), "utf8")
      .trim()
      .split("\n");
    expect((JSON.parse(lines.at(-1) ?? "") as { step: number }).step).toBe(step); // nothing was trained after what is saved
    expect(step).toBeGreaterThanOrEqual(3);
    expect(isAlive(rank)).toBe(false);
    expect(
      readdirSync(join(folder, "sft")).filter((name) => name.startsWith(".") || name === "run.lock" || name === "summary.json"),
    ).toEqual([]);

    const again = await tschat([
      "sft",
      "--model",
      join(folder, "tiny"),
      "--data",
      join(folder, "pairs.jsonl"),
      "--output",
      join(folder, "sft"),
      "--max-steps",
      "1",
      ...smallSteps,
    ]);
    expect(again.code).toBe(2); // nothing that was saved is lost without being asked
    expect(again.err).toMatch(/holds an interrupted run with checkpoint-\d{6}; choose another folder, or --force/);
  });

  test("a second signal ends at once, also the rank", async () => {
    const folder = temporaryFolder(),
      running = startSft(folder);
    await running.printed(/^sft 2\//m);
    const rank = rankOf(join(folder, "sft"));
    running.process.kill("SIGINT");
    running.process.kill("SIGTERM");
    expect((await running.end).code).toBe(130);
    expect(isAlive(rank)).toBe(false);
  });

  test("a killed rank is reported, exit code 1", async () => {
    const folder = temporaryFolder(),
      running = startSft(folder);
    await running.printed(/^sft 2\//m);
    process.kill(rankOf(join(folder, "sft")), "SIGKILL");
    const { code, err } = await running.end;
    expect(code).toBe(1);
    expect(err).toMatch(/^DistributedError: rank 0 was ended by SIGKILL; if nobody did that by hand, the machine ran out of memory/);
  });

  test("a rank ends with the command line that started it", async () => {
    const folder = temporaryFolder(),
      running = startSft(folder);
    await running.printed(/^sft 2\//m);
    running.process.kill("SIGKILL");
    // Its output ends when the last process that holds it is gone; the rank alone would train for hours.
    expect((await running.end).code).toBe(null);
  });
});

test("a signal during PPO's rollouts saves the actor of the last finished iteration", async () => {
  const folder = temporaryFolder(),
    common = [...smallSteps, "--data", pairFile(folder)];
  const model = tinyModel(folder),
    rewardModel = join(folder, "reward");
  expect((await tschat(["reward", "--model", model, "--output", rewardModel, "--max-steps", "1", ...common])).code).toBe(0);
  // Long answers and many prompts: nearly all of the time goes into rollouts.
  const running = start([
    "ppo",
    "--actor",
    model,
    "--reward-model",
    join(rewardModel, "model"),
    "--output",
    join(folder, "ppo"),
    "--max-steps",
    "100000",
    ...common,
    "--rollout-batch-size",
    "8",
    "--mini-batch-size",
    "8",
    "--max-new-tokens",
    "60",
    "--min-new-tokens",
    "60",
  ]);
  await running.printed(/^ppo 2\//m);
  running.process.kill("SIGINT");
  const end = await running.end;
  expect(end.code).toBe(130);
  const { step, folder: checkpoint } = await savedBy(end);
  expect(step).toBeGreaterThanOrEqual(2);
  expect(existsSync(join(checkpoint, "tokenizer.json"))).toBe(true);
});
