import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { createReporter } from "../../src/metrics/reporter.ts";

/** Collects what is written; as a terminal where `columns` is given. */
class Screen extends Writable {
  text = "";
  readonly isTTY: boolean;
  readonly columns: number | undefined;

  constructor(columns?: number) {
    super({ decodeStrings: false });
    this.isTTY = columns !== undefined;
    this.columns = columns;
  }

  override _write(chunk: string, _encoding: string, done: () => void): void {
    this.text += chunk;
    done();
  }

  /** What a terminal would show: it knows "to column 1", "erase to the end of the line" and "erase the line". */
  get lines(): string[] {
    return this.text.split("\n").map((written) => {
      let line = "";
      let column = 0;
      for (const piece of written.split("\u001b[")) {
        const [, control = "", part = piece] = /^(1G|0K|2K)(.*)$/.exec(piece) ?? [];
        if (control === "1G") column = 0;
        else if (control === "0K") line = line.slice(0, column);
        else if (control === "2K") line = "";
        line = line.slice(0, column).padEnd(column) + part + line.slice(column + part.length);
        column += part.length;
      }
      return line.trimEnd();
    });
  }
}

const run = (screen: Screen): void => {
  const reporter = createReporter(screen as unknown as NodeJS.WritableStream);
  reporter.note("start");
  reporter.start("ppo", 2);
  reporter.update(0, { loss: 3 });
  reporter.update(1, { reward: 0.5, tokensPerSecond: 1234.4 });
  reporter.note("a sample");
  reporter.update(2, { reward: NaN, learningRate: 1e-6 });
  reporter.stop();
  reporter.note("end");
};

test("without a terminal there is one line per step and no control character", () => {
  const screen = new Screen();
  run(screen);
  const lines = screen.text.split("\n").map((line) => line.replace(/[\d.]+ s/, "T"));
  expect(lines).toEqual([
    "start",
    "ppo 0/2  loss 3",
    "ppo 1/2  eta T  reward 0.5  tokens/s 1,234",
    "a sample",
    "ppo 2/2  took T  reward NaN  learning rate 1e-6",
    "end",
    "",
  ]);
});

test("on a terminal notes stay above one bar, which ends full", () => {
  const screen = new Screen(100);
  run(screen);
  const lines = screen.lines.map((line) => line.replace(/[\d.]+ s/, "T"));
  expect(lines).toEqual(["start", "a sample", "ppo #################### 2/2  took T  reward NaN  learning rate 1e-6", "end", ""]);
});

test("a narrow terminal cuts the bar's line, one of 0 columns gets plain lines", () => {
  const narrow = new Screen(30);
  run(narrow);
  expect(narrow.lines[2]).toBe("ppo #################### 2/2"); // 29 characters, the last of them a space
  const none = new Screen(0);
  run(none);
  expect(none.text).toContain("ppo 1/2  eta ");
});
