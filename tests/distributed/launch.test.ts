import { spawn, type ChildProcess } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { isRank, launch } from "../../src/distributed/launch.ts";
import { rejection } from "../failure.ts";

const program = fileURLToPath(new URL("ranks.ts", import.meta.url));

interface End {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface Launched {
  readonly process: ChildProcess;
  /** Resolves with the first match in what was printed so far or will be. @throws when the program ends without it */
  readonly printed: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly end: Promise<End>;
}

/** Starts the program as a user would, in a process group of its own. */
function start(args: string[], env: NodeJS.ProcessEnv = {}): Launched {
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH: process.env["PATH"], ...env }, stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(() => { child.kill("SIGKILL"); });
  let out = "";
  let err = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => { err += text; });
  child.stdout.setEncoding("utf8").on("data", (text: string) => { out += text; });
  const end = new Promise<End>((resolve) => child.once("close", (code) => resolve({ code, out, err })));
  const printed = (pattern: RegExp): Promise<RegExpExecArray> => new Promise((resolve, reject) => {
    const look = (): void => {
      const match = pattern.exec(out);
      if (match !== null) resolve(match);
    };
    child.stdout.on("data", look);
    look();
    void end.then(() => reject(new Error(`ended without ${pattern}: ${out}${err}`)));
  });
  return { process: child, printed, end };
}

/** Whether a process of this id runs. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("launch", () => {
  test("gives each rank torch's environment and its share of the cores", async () => {
    const { code, out } = await start(["environment", "2"]).end;
    const share = String(Math.max(1, Math.floor(availableParallelism() / 2)));
    const environment = (rank: string): string =>
      JSON.stringify({ RANK: rank, LOCAL_RANK: rank, WORLD_SIZE: "2", LOCAL_WORLD_SIZE: "2", OMP_NUM_THREADS: share });
    expect(code).toBe(0);
    expect(out.trim().split("\n").sort()).toEqual([environment("0"), environment("1")]);
  });

  test("leaves OMP_NUM_THREADS to the user, unless the setting says otherwise", async () => {
    expect((await start(["environment", "1"], { OMP_NUM_THREADS: "3" }).end).out).toContain('"OMP_NUM_THREADS":"3"');
    expect((await start(["environment", "1", "5"], { OMP_NUM_THREADS: "3" }).end).out).toContain('"OMP_NUM_THREADS":"5"');
  });

  test("gives the exit code of the rank that failed, and ends the others", async () => {
    expect(await start(["fail", "1"]).end).toMatchObject({ code: 7, err: "" });
    expect(await start(["failOne", "2"]).end).toMatchObject({ code: 5, err: "" });
  });

  test("reports a rank that was killed", async () => {
    const { code, err } = await start(["crash", "1"]).end;
    expect(code).toBe(1);
    expect(err).toMatch(/^DistributedError: rank 0 was ended by SIGKILL; if nobody did that by hand, the machine ran out of memory/);
  });

  test("reports a command that does not exist", async () => {
    expect(await rejection(() => launch({ worldSize: 1, command: ["/no/such/program"] }))).toEqual({
      name: "DistributedError", code: "E_DISTRIBUTED", message: "rank 0 could not be started: spawn /no/such/program ENOENT",
    });
  });
});

describe("a signal", () => {
  test.each(["SIGINT", "SIGTERM"] as const)("%s is passed on once, so that the rank saves, and gives exit code 130", async (signal) => {
    const run = start(["save", "1"]);
    await run.printed(/ready/);
    run.process.kill(signal);
    expect(await run.end).toMatchObject({ code: 130, out: expect.stringContaining(`saved after 1 ${signal}\n`) as string, err: "" });
  });

  test("sent twice kills the rank at once", async () => {
    const run = start(["hang", "1"]);
    const rank = Number((await run.printed(/ready (\d+)/))[1]);
    run.process.kill("SIGINT");
    await run.printed(/heard/);
    run.process.kill("SIGINT");
    expect(await run.end).toMatchObject({ code: 130, err: "" });
    expect(isAlive(rank)).toBe(false);
  });

  test("that ends a rank which does not listen yet gives 130 too, without a complaint", async () => {
    const run = start(["early", "1"]);
    await run.printed(/ready/);
    run.process.kill("SIGINT");
    expect(await run.end).toMatchObject({ code: 130, err: "" });
  });

  test("from the terminal reaches the launcher alone: a rank is in a process group of its own", async () => {
    const run = start(["save", "1"]);
    const rank = Number((await run.printed(/ready (\d+)/))[1]);
    // Succeeds only when a group of that id exists.
    expect(process.kill(-rank, 0)).toBe(true);
    run.process.kill("SIGINT");
    await run.end;
  });
});

test("a process is a rank when torch's RANK is set", async () => {
  expect(isRank()).toBe(false);
  expect((await start(["fail", "1"], { RANK: "0" }).end).code).toBe(7);
});
