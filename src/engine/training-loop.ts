import { Interrupted } from "../errors.ts";
import { type Schedule, scheduleFactor } from "../optim/schedule.ts";

/** Settings that the loops over a fixed data set share. */
export interface LoopConfig {
  learningRate: number;
  /** Of adapters, if it is another one. */
  loraLearningRate?: number | undefined;
  schedule: Schedule;
  warmupRatio: number;
  warmupSteps?: number | undefined;
  epochs: number;
  maxSteps?: number | undefined;
  miniBatchSize: number;
  saveEvery: number;
  evalEvery: number;
  logEvery: number;
}

/** Numbers by name. */
export type Metrics = Readonly<Record<string, number>>;

/** The surroundings of a run, as far as the loop needs them; `StepRun` has them. */
export interface LoopRun {
  readonly modelFolder: string;
  readonly checkpointFolder: (step: number) => string;
  readonly start: (totalSteps: number, shown: readonly string[]) => void;
  readonly log: (step: number, metrics: Metrics) => void;
  readonly stopRequested: () => boolean;
}

/** Learning rates of one step, as `TrainEngine.step` takes them. */
export type LearningRates = readonly [learningRate: number, loraLearningRate: number];

/** What a step does inside the loop. */
export interface LoopBody {
  /** Samples in the training set. */
  size: number;
  /** The minibatches of so many epochs, as indices of samples. */
  batches(numEpochs: number): Iterable<{ readonly rows: readonly number[] }>;
  /** Metrics that the terminal shows. */
  shown: readonly string[];
  /** One optimizer step on the samples with these indices. */
  update(rows: readonly number[], ...rates: LearningRates): Metrics;
  /** Metrics on held-out data. */
  evaluate(): Metrics;
  /** Writes the model into a folder, atomically. */
  save(folder: string): Promise<void>;
}

/** Metrics on held-out data before and after training, and how many steps there were. */
export interface LoopResult {
  before: Metrics;
  after: Metrics;
  steps: number;
}

/**
 * Supervised training: evaluates, goes through the data in a new order each epoch, logs, saves every n steps and at the
 * end, and stops after the step in which a signal came.
 *
 * @throws {Interrupted} after saving, when a stop was requested
 */
export async function trainingLoop(config: LoopConfig, run: LoopRun, body: LoopBody): Promise<LoopResult> {
  const stepsPerEpoch = Math.ceil(body.size / config.miniBatchSize);
  const totalSteps = config.maxSteps ?? config.epochs * stepsPerEpoch;
  const warmupSteps = config.warmupSteps ?? Math.ceil(config.warmupRatio * totalSteps);
  run.start(totalSteps, body.shown);
  const before = body.evaluate();
  run.log(0, before);
  let step = 0, evaluated = { step: 0, metrics: before };
  for (const { rows } of body.batches(Math.ceil(totalSteps / stepsPerEpoch))) {
    if (step === totalSteps) break;
    const factor = scheduleFactor(step, { schedule: config.schedule, warmupSteps, totalSteps });
    const learningRate = config.learningRate * factor, loraLearningRate = (config.loraLearningRate ?? config.learningRate) * factor;
    let metrics = body.update(rows, learningRate, loraLearningRate);
    step++;
    if (config.evalEvery > 0 && step % config.evalEvery === 0) {
      evaluated = { step, metrics: body.evaluate() };
      metrics = { ...metrics, ...evaluated.metrics };
    }
    if (step % config.logEvery === 0 || evaluated.step === step) {
      run.log(step, { ...metrics, learningRate, ...(config.loraLearningRate !== undefined && { loraLearningRate }) });
    }
    const stop = run.stopRequested();
    if (stop || (config.saveEvery > 0 && step % config.saveEvery === 0)) await body.save(run.checkpointFolder(step));
    if (stop) throw new Interrupted(step, run.checkpointFolder(step));
    await new Promise(setImmediate); // lets the log and the terminal be written
  }
  if (evaluated.step !== step) {
    evaluated = { step, metrics: body.evaluate() };
    run.log(step, evaluated.metrics);
  }
  await body.save(run.modelFolder);
  return { before, after: evaluated.metrics, steps: step };
}
