import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { formatBytes } from "../../src/metrics/format.ts";
import { loadDisplay } from "../../src/metrics/load-display.ts";

/** Collects what is written; a terminal where `columns` is given. */
class Screen extends Writable {
  readonly isTTY: boolean;
  readonly columns: number;
  text = "";
  constructor(columns?: number) {
    super({ decodeStrings: false });
    this.isTTY = columns !== undefined;
    this.columns = columns ?? 0;
  }
  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.text += chunk;
    done();
  }
}

/** Plays calls at times in milliseconds; gives what was printed and what was logged. */
function play(screen: Screen, calls: readonly (readonly [ms: number, done: number, total: number, path?: string])[]) {
  const logged: string[] = [];
  let time = 0;
  const display = loadDisplay(
    screen,
    (line) => logged.push(line),
    () => time,
  );
  for (const [ms, done, total, path = "model"] of calls) {
    time = ms;
    display(path, done, total);
  }
  return { printed: screen.text, logged };
}

test("nothing is shown of a model that is there within a second", () => {
  const quick = [
    [5000, 0, 4e9],
    [5500, 3e9, 4e9],
    [5999, 4e9, 4e9],
  ] as const;
  expect(play(new Screen(80), quick)).toEqual({ printed: "", logged: [] });
  expect(play(new Screen(), quick)).toEqual({ printed: "", logged: [] });
});

test("on a terminal a bar, at most ten times a second, as wide as the terminal, which goes away; the log gets one line", () => {
  const calls = [
    [0, 0, 4e9],
    [999, 1e9, 4e9],
    [1000, 1e9, 4e9],
    [1050, 2e9, 4e9],
    [1100, 3e9, 4e9],
    [2500, 4e9, 4e9],
  ] as const;
  const bar = (filled: number) => `loading ${"#".repeat(filled)}${".".repeat(20 - filled)}`;
  const clear = "\r\u001b[2K";
  expect(play(new Screen(80), calls)).toEqual({
    printed: ["", `${bar(5)} 1.0 GB of 4.0 GB  model`, `${bar(15)} 3.0 GB of 4.0 GB  model`, ""].join(clear),
    logged: ["model: 4.0 GB loaded in 2.5 s"],
  });
  expect(play(new Screen(12), calls).printed).toBe(`${clear}loading ###${clear}loading ###${clear}`);
});

test("elsewhere a line every ten seconds and one at the end, for each model", () => {
  const calls = [
    [0, 0, 2e8],
    [900, 1e7, 2e8],
    [1000, 2e7, 2e8],
    [10_999, 1e8, 2e8],
    [11_000, 1.5e8, 2e8],
    [12_000, 2e8, 2e8],
    [20_000, 0, 5e5, "next"],
    [20_500, 5e5, 5e5, "next"],
    [30_000, 0, 5e5, "next"],
    [32_000, 5e5, 5e5, "next"],
  ] as const;
  const lines = [
    "model: 10% of 200.0 MB loaded",
    "model: 75% of 200.0 MB loaded",
    "model: 200.0 MB loaded in 12.0 s",
    "next: 500.0 kB loaded in 2.0 s",
  ];
  expect(play(new Screen(), calls)).toEqual({ printed: `${lines.join("\n")}\n`, logged: lines });
});

test("a size is for people", () => {
  expect([0, 512, 999, 1000, 1.26e6, 13.46e9, 2e15].map(formatBytes)).toEqual([
    "0 B",
    "512 B",
    "999 B",
    "1.0 kB",
    "1.3 MB",
    "13.5 GB",
    "2000.0 TB",
  ]);
});
