import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Interrupted } from "../../src/errors.ts";
import { RankLog } from "../../src/metrics/rank-log.ts";
import { temporaryFolder } from "../temporary-folder.ts";

test("a log has a line with the time for every note and step, and the error that ended the run with its causes", () => {
  const path = join(temporaryFolder(), "rank-0.log");
  const log = new RankLog(path);
  const before = Date.now();
  log.note("model: tiny");
  log.log(12, { loss: 2.13456, learningRate: 2e-5, tokensPerSecond: 1234.5, kl: NaN });
  log.failure(new Interrupted(12, "run/checkpoint-000012"));
  log.failure(new RangeError("mine", { cause: new Error("deeper") }));
  log.close();

  const lines = readFileSync(path, "utf8").split("\n");
  for (const line of lines.slice(0, 4)) {
    const time = new Date(line.slice(0, 24));
    expect(time.toISOString()).toBe(line.slice(0, 24));
    expect(time.getTime()).toBeGreaterThanOrEqual(before);
    expect(time.getTime()).toBeLessThanOrEqual(Date.now());
  }
  expect(lines.slice(0, 4).map((line) => line.slice(24))).toEqual([
    " model: tiny",
    " step 12  loss 2.135  learning rate 2e-5  tokens/s 1,235  kl NaN",
    " interrupted after step 12; the model is saved in run/checkpoint-000012",
    " ended by RangeError: mine",
  ]);
  expect(lines.slice(4).join("\n")).toContain("[cause]: Error: deeper");
});
