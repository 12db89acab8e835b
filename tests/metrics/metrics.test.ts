import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { formatDuration, formatNumber, table } from "../../src/metrics/format.ts";
import { JsonlLog, MetricsLog } from "../../src/metrics/jsonl-log.ts";
import { Meter } from "../../src/metrics/meter.ts";
import { Stopwatch } from "../../src/metrics/stopwatch.ts";
import { failure } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";

describe("Meter", () => {
  test("weights each mean by its count", () => {
    const meter = new Meter();
    meter.add("loss", 2, 100);
    meter.add("loss", 1, 300);
    meter.add("kl", 5);
    expect(meter.means()).toEqual({ loss: 1.25, kl: 5 }); // (200 + 300) / 400
    meter.reset();
    expect(meter.means()).toEqual({});
  });

  test("a mean over nothing changes nothing, not even as NaN", () => {
    const meter = new Meter();
    meter.add("loss", NaN, 0);
    meter.add("loss", 3, 2);
    expect(meter.means()).toEqual({ loss: 3 });
  });

  test("a negative or unknown count is refused", () => {
    for (const count of [-1, NaN]) {
      const { name, message } = failure(() => new Meter().add("loss", 1, count));
      expect([name, message]).toEqual(["RangeError", `meter: the count of loss must be 0 or more, got ${count}`]);
    }
  });
});

test("Stopwatch adds up the seconds and tokens of a stage, also of stages that overlap", () => {
  let now = 0;
  const watch = new Stopwatch(() => now);
  const stopRollout = watch.start("rollout");
  now = 500;
  const stopScoring = watch.start("scoring");
  now = 1000;
  stopRollout(300);
  now = 2500;
  stopScoring();
  const again = watch.start("rollout");
  now = 3500;
  again(100);
  // rollout 1 s + 1 s with 400 tokens, scoring 2 s without tokens
  expect(watch.metrics()).toEqual({ rolloutSeconds: 2, rolloutTokensPerSecond: 200, scoringSeconds: 2 });
  watch.reset();
  expect(watch.metrics()).toEqual({});
});

describe("logs", () => {
  test("hold one object per line as soon as it is written, and go on where they ended", () => {
    const path = join(temporaryFolder(), "metrics.jsonl");
    const log = new JsonlLog(path);
    log.append({ text: "two\nlines", count: 1 });
    expect(readFileSync(path, "utf8")).toBe('{"text":"two\\nlines","count":1}\n');
    log.close();
    const more = new JsonlLog(path);
    more.append({ count: 2 });
    more.close();
    expect(readFileSync(path, "utf8").split("\n")).toEqual(['{"text":"two\\nlines","count":1}', '{"count":2}', ""]);
  });

  test("numbers that JSON lacks become null and are named", () => {
    const path = join(temporaryFolder(), "metrics.jsonl");
    const log = new MetricsLog(path);
    log.log(3, { loss: NaN, kl: 0.5, norm: -Infinity });
    log.close();
    const { time, ...rest } = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
    expect(rest).toEqual({ step: 3, loss: null, kl: 0.5, norm: null, nonFinite: ["loss", "norm"] });
    expect(time).toBeGreaterThanOrEqual(0);
    expect(time).toBeLessThan(60);
  });

  test("a file that cannot be opened or a full disk is an error that names the file", () => {
    const folder = temporaryFolder();
    expect(failure(() => new JsonlLog(folder))).toEqual({
      name: "ConfigError", code: "E_CONFIG", message: `could not write ${folder}: illegal operation on a directory`,
    });
    if (!existsSync("/dev/full")) return;
    const full = new JsonlLog("/dev/full");
    expect(failure(() => full.append({})).message).toBe("could not write /dev/full: no space left on device");
    full.close();
  });
});

describe("numbers for people", () => {
  test.each([[0.254, "0.25 s"], [12.34, "12.3 s"], [59.96, "1m 00s"], [125, "2m 05s"], [3599.6, "1h 00m"], [7384, "2h 03m"], [NaN, "?"]])(
    "%d seconds are %s", (seconds, text) => expect(formatDuration(seconds)).toBe(text),
  );

  test.each([
    [0, "0"], [3, "3"], [-0.12345, "-0.1235"], [12.5, "12.5"], [999.96, "1,000"], [1234567.8, "1,234,568"], [0.00002, "2e-5"],
    [0.000123456, "1.23e-4"], [NaN, "NaN"], [-Infinity, "-Infinity"],
  ])("%d is %s", (value, text) => expect(formatNumber(value)).toBe(text));

  test("a table has a header and one line per row", () => {
    const text = table(["step", "loss"], [["1", "2.5"], ["22", "1"]]);
    const lines = text.split("\n").map((line) => line.replace(/[^\w. ]+/g, "|").replace(/ +/g, " "));
    expect(lines.filter((line) => /\w/.test(line))).toEqual(["| step | loss |", "| 1 | 2.5 |", "| 22 | 1 |"]);
  });
});
