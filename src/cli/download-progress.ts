import { SingleBar } from "cli-progress";
import { formatHubId, isCommit, type HubId } from "../hub/hub-id.ts";
import type { DownloadProgress, HubOptions } from "../hub/snapshot.ts";
import { formatDuration } from "../metrics/format.ts";
import type { Output } from "../metrics/reporter.ts";
import { exitCodes } from "./exit-codes.ts";

/** Milliseconds between two lines where there is no terminal. */
const lineInterval = 10_000;
const barWidth = 20;

/** Shows downloads: one bar on a terminal, elsewhere a line at the beginning, every ten seconds and at the end. */
export class DownloadReporter {
  readonly #output: Output;
  readonly #cacheFolder: string;
  #bar: SingleBar | undefined;
  #begin = 0;
  #beginBytes = 0;
  #lastLine = 0;
  #last: DownloadProgress | undefined;

  /** @param cacheFolder named at the end, since that is where the disk fills */
  constructor(output: Output, cacheFolder: string) {
    this.#output = output;
    this.#cacheFolder = cacheFolder;
  }

  /** Takes the place of the figures of before; another id begins a new download. */
  update(progress: DownloadProgress): void {
    if (this.#last?.id !== progress.id) {
      this.stop();
      this.#start(progress);
    }
    this.#last = progress;
    if (this.#bar !== undefined) {
      this.#bar.update(progress.doneBytes);
    } else if (performance.now() - this.#lastLine > lineInterval) {
      this.#lastLine = performance.now();
      this.#output.write(`${this.#line(progress)}\n`);
    }
  }

  /** Prints a line, in place of the bar until it is drawn again. */
  note(line: string): void {
    this.#output.write(`${this.#bar === undefined ? "" : "\r\u001b[2K"}${line}\n`);
  }

  /** Ends what is shown; says where the files are when all have arrived. */
  stop(): void {
    this.#bar?.stop();
    this.#bar = undefined;
    if (this.#last !== undefined && this.#last.doneBytes === this.#last.totalBytes) {
      const { id, totalBytes } = this.#last;
      const seconds = (performance.now() - this.#begin) / 1000;
      this.#output.write(`${shortId(id)}: ${formatBytes(totalBytes)} in ${formatDuration(seconds)}, kept in ${this.#cacheFolder}\n`);
    }
    this.#last = undefined;
  }

  #start(progress: DownloadProgress): void {
    [this.#begin, this.#lastLine, this.#beginBytes] = [performance.now(), performance.now(), progress.doneBytes];
    // A pseudo-terminal may say that it is 0 columns wide; a bar cannot be drawn there.
    if (this.#output.isTTY === true && (this.#output.columns ?? 0) > 0) {
      this.#bar = new SingleBar({
        stream: this.#output, hideCursor: false, gracefulExit: false, fps: 5,
        format: () => this.#line(this.#last ?? progress).slice(0, (this.#output.columns ?? 80) - 1),
      });
      this.#bar.start(progress.totalBytes, progress.doneBytes);
    } else {
      this.#output.write(`${shortId(progress.id)}: downloading ${formatBytes(progress.totalBytes)}\n`);
    }
  }

  /** `org/name ########............ 108 MB of 271 MB  11.2 MB/s  eta 14.6 s`; without the bar in a log. */
  #line({ id, doneBytes, totalBytes }: DownloadProgress): string {
    const seconds = (performance.now() - this.#begin) / 1000;
    const rate = (doneBytes - this.#beginBytes) / seconds;
    const filled = Math.round((doneBytes / Math.max(totalBytes, 1)) * barWidth);
    const bar = this.#bar === undefined ? "" : ` ${"#".repeat(filled).padEnd(barWidth, ".")}`;
    const eta = rate > 0 ? `  eta ${formatDuration((totalBytes - doneBytes) / rate)}` : "";
    return `${shortId(id)}${bar} ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}  ${formatBytes(Math.max(rate, 0))}/s${eta}`;
  }
}

/** `12 kB`, `3.4 MB`, `271 MB`, `14.2 GB`. */
function formatBytes(bytes: number): string {
  const [unit, size] = bytes < 1e6 ? ["kB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(bytes / size).toFixed(bytes / size < 100 && bytes >= 1e6 ? 1 : 0)} ${unit}`;
}

/** A commit hash cut as git does. */
function shortId(id: HubId): string {
  return formatHubId(isCommit(id.revision) ? { ...id, revision: id.revision.slice(0, 7) } : id);
}

/**
 * Runs what may download, with its progress on standard error, since standard output is for results. Ctrl-C ends the process and
 * leaves what has arrived for the next time.
 */
export async function showingDownloads<T>(cacheFolder: string, body: (options: HubOptions) => Promise<T>): Promise<T> {
  const reporter = new DownloadReporter(process.stderr, cacheFolder);
  const controller = new AbortController();
  const stop = (): void => controller.abort();
  process.on("SIGINT", stop).on("SIGTERM", stop);
  try {
    return await body({
      signal: controller.signal, onProgress: (progress) => reporter.update(progress), onNote: (line) => reporter.note(line),
    });
  } catch (error) {
    if (!controller.signal.aborted) throw error;
    reporter.stop();
    process.stderr.write("stopped; what has arrived is kept, and the same command goes on from there\n");
    process.exit(exitCodes.interrupted);
  } finally {
    reporter.stop();
    process.off("SIGINT", stop).off("SIGTERM", stop);
  }
}
