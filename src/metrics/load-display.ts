import { formatBytes, formatDuration } from "./format.ts";
import type { Output } from "./reporter.ts";

/** Told how much of a model is loaded; `doneBytes` equals `totalBytes` at the end. */
export type LoadDisplay = (path: string, doneBytes: number, totalBytes: number) => void;

/** Nothing is shown of a model that is there sooner than this. */
const PATIENCE_MS = 1000;
const REDRAW_MS = 100, LINE_MS = 10_000;
const BAR_WIDTH = 20;

/**
 * Shows the loading of models where it takes longer than a second: on a terminal a bar, which goes away at the end; elsewhere a line
 * every ten seconds and one at the end.
 *
 * @param log gets the lines too, those of a terminal's bar left out
 */
export function loadDisplay(
  output: Output, log: (line: string) => void = () => {}, now: () => number = () => performance.now(),
): LoadDisplay {
  const columns = output.isTTY === true ? (output.columns ?? 0) : 0;
  let path: string | undefined, begin = 0, shown = 0;
  const line = (text: string): void => {
    if (columns === 0) output.write(`${text}\n`);
    log(text);
  };
  return (loading, doneBytes, totalBytes) => {
    const time = now();
    if (path !== loading) [path, begin, shown] = [loading, time, time + PATIENCE_MS - (columns > 0 ? REDRAW_MS : LINE_MS)];
    const isEnd = doneBytes >= totalBytes;
    if (isEnd) {
      path = undefined;
      if (columns > 0 && shown > begin + PATIENCE_MS - REDRAW_MS) output.write("\r\x1b[2K");
      if (time - begin >= PATIENCE_MS) line(`${loading}: ${formatBytes(totalBytes)} loaded in ${formatDuration((time - begin) / 1000)}`);
    } else if (time - shown >= (columns > 0 ? REDRAW_MS : LINE_MS)) {
      shown = time;
      const percent = Math.floor((doneBytes / totalBytes) * 100);
      if (columns > 0) output.write(`\r\x1b[2K${barOf(loading, doneBytes, totalBytes).slice(0, columns - 1)}`);
      else line(`${loading}: ${percent}% of ${formatBytes(totalBytes)} loaded`);
    }
  };
}

function barOf(path: string, doneBytes: number, totalBytes: number): string {
  const filled = Math.floor((doneBytes / totalBytes) * BAR_WIDTH);
  return `loading ${"#".repeat(filled).padEnd(BAR_WIDTH, ".")} ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}  ${path}`;
}
