import type { ConfigOf, Fields } from "./fields.ts";
import type { Settings } from "./resolve.ts";

/** The steps of RLHF, in their order. */
export const stepNames = ["sft", "reward", "ppo"] as const;

/** One of the three steps. */
export type StepName = (typeof stepNames)[number];

/** Numbers of one training step, for the log: names are camelCase, with the unit where it is not obvious. */
export type Metrics = Readonly<Record<string, number>>;

/** Settings that every step has. */
export interface StepConfig {
  readonly output: string;
  readonly force: boolean;
  readonly threads: number | undefined;
}

/**
 * What a step is given to run in: its folder, its log and its terminal. On ranks other than 0 nothing is written or printed.
 *
 *     run.start(totalSteps, ["loss", "learningRate"]);
 *     run.log(step, { loss, learningRate, tokensPerSecond });
 *     if (run.stopRequested()) {
 *       await model.save(run.checkpointFolder(step));
 *       throw new Interrupted(step, run.checkpointFolder(step));
 *     }
 */
export interface StepRun {
  /** The folder of this step, e.g. `runs/quickstart/ppo`. */
  readonly folder: string;
  /** Where the final model goes: `<folder>/model`. */
  readonly modelFolder: string;
  /** Where the model after `step` steps goes: `<folder>/checkpoint-000123`. */
  readonly checkpointFolder: (step: number) => string;
  /** Says how many steps there will be, and which metrics the terminal shows of each. */
  readonly start: (totalSteps: number, shown: readonly string[]) => void;
  /** Appends one step to `metrics.jsonl`, TensorBoard's file and the log of this rank, and shows it on the terminal. */
  readonly log: (step: number, metrics: Metrics) => void;
  /** Appends a text sample, with anything that helps to read it, to `samples.jsonl`. */
  readonly sample: (record: Readonly<Record<string, unknown>>) => void;
  /** Prints a line, which also goes into the log of this rank. */
  readonly note: (line: string) => void;
  /** True once Ctrl-C or SIGTERM arrived: finish the step, save, throw `Interrupted`. */
  readonly stopRequested: () => boolean;
}

/** Trains one step and returns what its `summary.json` holds. */
export type TrainStep<C, S extends object = object> = (config: C, run: StepRun) => Promise<S>;

/**
 * Runs one step in its folder: returns the summary of a finished one where it may be reused, otherwise opens the folder,
 * trains, writes the summary and closes, also after an error.
 */
export type RunStep = <F extends Fields, S extends object>(
  settings: Settings<F>, config: ConfigOf<F> & StepConfig, train: TrainStep<ConfigOf<F>, S>,
) => Promise<S & StepDuration>;

/** How long a step took, also when it was reused. */
export interface StepDuration {
  readonly seconds: number;
}
