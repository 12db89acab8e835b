import type { Output } from "../metrics/reporter.ts";
import type { RunStep } from "../config/step.ts";
import { onEveryRank } from "../distributed/launch.ts";

/** How a command that trains runs its steps. */
export interface TrainingOptions {
  readonly reuses: boolean;
  readonly restarts: boolean;
  readonly threads: number | undefined;
}

/**
 * Runs `body` in a process of its own, which computes; this process stays free for signals. There SIGINT and SIGTERM only set a
 * flag, and the process ends with its parent.
 *
 * @param body gets the function that runs a step, and gives the exit code
 */
export function onRanks(options: TrainingOptions, body: (runStep: RunStep) => Promise<number>): Promise<number> {
  return onEveryRank({ worldSize: 1, threads: options.threads }, async () => {
    const { binding } = await import("../native/binding.ts");
    binding.dieWithParent();
    binding.catchStopSignals();
    const { stepRunner } = await import("./step-run.ts");
    const output: Output = process.stdout;
    return body(stepRunner({ ...options, output, stopRequested: () => binding.stopSignal() !== 0 }));
  });
}
