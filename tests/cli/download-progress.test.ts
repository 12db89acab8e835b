import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { DownloadReporter } from "../../src/cli/download-progress.ts";
import type { HubId } from "../../src/hub/hub-id.ts";

const id: HubId = { repo: "org/tiny", revision: "0123456789abcdef0123456789abcdef01234567", selector: undefined };

function reporterOn(terminal: { isTTY?: boolean; columns?: number }) {
  const output = Object.assign(new PassThrough(), terminal);
  return { reporter: new DownloadReporter(output, "/cache/hub"), text: () => String(output.read() ?? "") };
}

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "Date", "setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe("in a log", () => {
  test("there is a line at the beginning, one every ten seconds, and one at the end", () => {
    const { reporter, text } = reporterOn({});
    // 1 MB each second, of 25 MB
    for (let second = 0; second <= 25; second++) {
      reporter.update({ id, doneBytes: second * 1e6, totalBytes: 25e6 });
      vi.advanceTimersByTime(1000);
    }
    reporter.stop();
    expect(text().split("\n")).toEqual([
      "org/tiny@0123456: downloading 25.0 MB",
      "org/tiny@0123456 11.0 MB of 25.0 MB  1.0 MB/s  eta 14.0 s",
      "org/tiny@0123456 22.0 MB of 25.0 MB  1.0 MB/s  eta 3.0 s",
      "org/tiny@0123456: 25.0 MB in 26.0 s, kept in /cache/hub",
      "",
    ]);
  });

  test("what an earlier attempt left does not count as speed", () => {
    const { reporter, text } = reporterOn({});
    reporter.update({ id, doneBytes: 900e6, totalBytes: 2e9 });
    vi.advanceTimersByTime(11_000);
    reporter.update({ id, doneBytes: 1.45e9, totalBytes: 2e9 });
    expect(text()).toContain("org/tiny@0123456 1.4 GB of 2.0 GB  50.0 MB/s  eta 11.0 s\n"); // 550 MB in 11 s; 550 MB are left
  });

  test("a download that did not end says nothing of an end, and a second one begins anew", () => {
    const { reporter, text } = reporterOn({});
    reporter.update({ id, doneBytes: 0, totalBytes: 500 });
    reporter.update({ id: { repo: "org/set", revision: "main", selector: "test" }, doneBytes: 3000, totalBytes: 3000 });
    reporter.note("a note");
    reporter.stop();
    expect(text().split("\n")).toEqual([
      "org/tiny@0123456: downloading 1 kB", "org/set:test: downloading 3 kB", "a note",
      "org/set:test: 3 kB in 0.00 s, kept in /cache/hub", "",
    ]);
  });
});

test("on a terminal there is one bar, as wide as it is", () => {
  const { reporter, text } = reporterOn({ isTTY: true, columns: 40 });
  reporter.update({ id, doneBytes: 10e6, totalBytes: 20e6 });
  vi.advanceTimersByTime(1000);
  reporter.update({ id, doneBytes: 15e6, totalBytes: 20e6 });
  reporter.stop();
  const shown = text();
  expect(shown).toContain("org/tiny@0123456 ##########..........".slice(0, 39));
  expect(shown).toContain("org/tiny@0123456 ###############....."); // three quarters
  expect(shown).not.toContain("kept in");
});
