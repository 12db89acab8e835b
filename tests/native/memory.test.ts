import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import type { Measurements } from "./memory-loops.ts";

/** Measures one loop in a fresh process, where nothing else allocates. */
function run(loop: string): Measurements {
  const script = fileURLToPath(new URL("memory-loops.ts", import.meta.url));
  // One thread: an idle OpenMP thread would spin on a core that other tests need.
  const env = { ...process.env, OMP_NUM_THREADS: "1" };
  return JSON.parse(execFileSync(process.execPath, ["--expose-gc", script, loop], { encoding: "utf8", env })) as Measurements;
}

/** Growth of resident memory from the end of the second eighth of a loop to its end, MB. */
function growth({ eighths }: Measurements): number {
  return (eighths.at(-1)?.megabytes ?? Number.NaN) - (eighths[1]?.megabytes ?? Number.NaN);
}

describe("memory in a synchronous loop", { timeout: 120_000 }, () => {
  test("3,000 dropped results of 1 MiB: under 200 alive and 400 MB resident at any time", () => {
    const measured = run("mebibytes");
    expect(measured.peakLive).toBeLessThan(200);
    expect(measured.peakMegabytes).toBeLessThan(400);
  });

  test("300 dropped results of 64 MiB: under 650 MB resident at any time", () => {
    expect(run("large").peakMegabytes).toBeLessThan(650);
  });

  test("a million dropped results of 16 bytes: under 100,000 alive, resident memory flat", () => {
    const measured = run("tiny");
    expect(measured.peakLive).toBeLessThan(100_000);
    expect(growth(measured)).toBeLessThan(20);
  });

  test("forward and backward of an MLP: the same tensors alive after each step from the second on", () => {
    const [, second, ...later] = run("mlpCollected").liveAfterCollection;
    expect(later).toEqual(later.map(() => second));
    expect(later.length).toBe(18);
  });

  test("forward and backward of an MLP, collected when V8 sees fit: bounded", () => {
    const measured = run("mlp");
    expect(measured.peakLive).toBeLessThan(1500); // 15 a step
    expect(measured.peakMegabytes).toBeLessThan(600);
  });

  test("activations that the graph saves for backward count as memory: 200 of 4 MiB stay under 500 MB", () => {
    expect(run("savedOutputs").peakMegabytes).toBeLessThan(500);
  });

  test.each(["segmentCollected", "unusedSegmentCollected"])(
    "300 segments, with backward or dropped without: the same tensors alive after each (%s)",
    (loop) => {
      const [, second, ...later] = run(loop).liveAfterCollection;
      expect(later.length).toBe(298);
      expect(new Set(later)).toEqual(new Set([second]));
    },
  );
});
