import { MultiBar, type SingleBar } from "cli-progress";
import { formatDuration, formatName, formatNumber } from "./format.ts";

/** Where a reporter writes: standard output, or what a test puts in its place. */
export type Output = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

/** What the terminal shows of a training run. */
export interface Reporter {
  /** Begins a run of `totalSteps` steps. */
  readonly start: (title: string, totalSteps: number) => void;
  /** Shows one finished step, or with step 0 what was measured before the first, with its key figures. */
  readonly update: (step: number, figures: Readonly<Record<string, number>>) => void;
  /** Prints a line, above the bar where there is one. */
  readonly note: (line: string) => void;
  /** Ends the run; the bar stays as it is. */
  readonly stop: () => void;
}

/** A reporter with a progress bar on a terminal and one line per step elsewhere, e.g. `ppo 3/25  eta 2m 05s  reward 0.41`. */
export function createReporter(output: Output): Reporter {
  // A pseudo-terminal may say that it is 0 columns wide; a bar cannot be drawn there.
  return output.isTTY === true && (output.columns ?? 0) > 0 ? new BarReporter(output) : new LineReporter(output);
}

/** Title, length and pace of the run that is shown. */
class Progress {
  readonly title: string;
  readonly totalSteps: number;
  #begin = performance.now();

  constructor(title: string, totalSteps: number) {
    this.title = title;
    this.totalSteps = totalSteps;
  }

  /** `eta 3m 12s  loss 2.134`; on the last step the time taken, before the first neither. */
  text(step: number, figures: Readonly<Record<string, number>>): string {
    if (step === 0) this.#begin = performance.now(); // an evaluation beforehand says nothing about the pace
    const seconds = (performance.now() - this.#begin) / 1000;
    const left = this.totalSteps - step;
    const pace = left > 0 ? `eta ${formatDuration((seconds / step) * left)}` : `took ${formatDuration(seconds)}`;
    const shown = Object.entries(figures).map(([name, value]) => `${formatName(name)} ${formatNumber(value)}`);
    return (step === 0 ? shown : [pace, ...shown]).join("  ");
  }
}

class LineReporter implements Reporter {
  readonly #output: Output;
  #progress = new Progress("", 0);

  constructor(output: Output) {
    this.#output = output;
  }

  start(title: string, totalSteps: number): void {
    this.#progress = new Progress(title, totalSteps);
  }

  update(step: number, figures: Readonly<Record<string, number>>): void {
    this.note(`${this.#progress.title} ${step}/${this.#progress.totalSteps}  ${this.#progress.text(step, figures)}`);
  }

  note(line: string): void {
    this.#output.write(`${line}\n`);
  }

  stop(): void {}
}

const barWidth = 20;

class BarReporter implements Reporter {
  readonly #output: Output;
  #progress = new Progress("", 0);
  #text = "";
  #bars: MultiBar | undefined;
  #bar: SingleBar | undefined;

  constructor(output: Output) {
    this.#output = output;
  }

  start(title: string, totalSteps: number): void {
    this.stop();
    this.#progress = new Progress(title, totalSteps);
    this.#text = "";
    // A rank computes without giving timers a turn, so every update below is drawn by hand.
    this.#bars = new MultiBar({
      stream: this.#output, hideCursor: false, linewrap: true, gracefulExit: false, format: (_options, { value }) => this.#line(value),
    });
    this.#bar = this.#bars.create(totalSteps, 0);
    this.#bars.update();
  }

  update(step: number, figures: Readonly<Record<string, number>>): void {
    this.#text = this.#progress.text(step, figures);
    this.#bar?.update(step);
    this.#bars?.update();
  }

  note(line: string): void {
    if (this.#bars === undefined) {
      this.#output.write(`${line}\n`);
      return;
    }
    this.#bars.log(`${line}\n`);
    this.#bars.update();
  }

  stop(): void {
    this.#bars?.stop();
    this.#bars = undefined;
    this.#bar = undefined;
  }

  /** Cut to the width of the terminal: a line that wraps would be drawn again below itself. */
  #line(step: number): string {
    const { title, totalSteps } = this.#progress;
    const filled = totalSteps > 0 ? Math.round((step / totalSteps) * barWidth) : 0;
    const bar = "#".repeat(filled).padEnd(barWidth, ".");
    return `${title} ${bar} ${step}/${totalSteps}  ${this.#text}`.slice(0, Math.max((this.#output.columns ?? 80) - 1, 1));
  }
}
