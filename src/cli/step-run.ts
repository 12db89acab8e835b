import { basename, dirname } from "node:path";
import { exists } from "../checkpoint/atomic.ts";
import { openPipeline, openRun, readSummary, RunPaths, type RunSummary } from "../checkpoint/run-folder.ts";
import type { ConfigOf, Fields } from "../config/fields.ts";
import { flagOf } from "../config/names.ts";
import type { Settings } from "../config/resolve.ts";
import { readSettings, resolvedYaml, savedValues } from "../config/settings-file.ts";
import type { RunStep, StepConfig, StepDuration, StepRun, TrainStep } from "../config/step.ts";
import { ConfigError } from "../errors.ts";
import { parseHubId } from "../hub/hub-id.ts";
import { formatDuration } from "../metrics/format.ts";
import { JsonlLog, MetricsLog } from "../metrics/jsonl-log.ts";
import { loadDisplay } from "../metrics/load-display.ts";
import { RankLog } from "../metrics/rank-log.ts";
import { createReporter, type Output, type Reporter } from "../metrics/reporter.ts";
import { TensorboardLog } from "../metrics/tensorboard.ts";
import { observeLoading } from "../model/formats/load-progress.ts";
import { settingsLayout } from "../pipeline/config.ts";

/** How steps are run. */
export interface StepRunOptions {
  /** A finished step with the same settings is taken as it is; without this it is an error. */
  readonly reuses: boolean;
  /** An interrupted step starts over and its checkpoints are lost; without this it is an error. */
  readonly restarts: boolean;
  readonly output: Output;
  readonly stopRequested: () => boolean;
}

/** Makes the function that runs one step in its folder. Only rank 0 writes and prints. */
export function stepRunner(options: StepRunOptions): RunStep {
  const reporter = createReporter(options.output);
  const isWriter = Number(process.env["RANK"] ?? 0) === 0;

  return async <F extends Fields, S extends object>(
    settings: Settings<F>, config: ConfigOf<F> & StepConfig, train: TrainStep<ConfigOf<F>, S>,
  ) => {
    const { name } = settings;
    const finished = options.reuses && !config.force ? await readSummary(config.output) : undefined;
    if (finished !== undefined) {
      await checkSettings(settings, config);
      await checkInputs(config, finished);
      if (isWriter) reporter.note(`${name}: finished before, reused from ${config.output}`);
      return finished as RunSummary & S & StepDuration; // written by this same step
    }
    if (config.force) await checkPaths(config);
    const begin = performance.now();
    const secondsSoFar = () => (performance.now() - begin) / 1000;
    if (!isWriter) return { ...(await train(config, silentRun(config.output, options.stopRequested))), seconds: secondsSoFar() };

    const folder = await openRun(config.output, {
      config: resolvedYaml({ [name]: savedValues(settings.fields, config) }),
      replaces: config.force ? "finished" : options.restarts ? "interrupted" : "nothing",
    });
    const { run, logLine, failed, close } = openStepRun(name, { paths: folder, reporter, stopRequested: options.stopRequested });
    try {
      const results = await observeLoading(loadDisplay(options.output, logLine), () => train(config, run));
      const seconds = secondsSoFar();
      await folder.markFinished({ ...results, seconds });
      reporter.stop();
      run.note(`${name}: finished in ${formatDuration(seconds)}, see ${config.output}`);
      return { ...results, seconds };
    } catch (error) {
      failed(error);
      throw error;
    } finally {
      close();
      await folder.close();
    }
  };
}

/**
 * Runs several steps in the subfolders of one folder, with their results in its `summary.json`.
 *
 * @param settings what its `config.yaml` holds
 */
export async function inPipelineFolder<S extends object>(
  folder: string, settings: Readonly<Record<string, unknown>>, body: () => Promise<S>,
): Promise<S> {
  // Steps that were not chosen this time keep their settings and results.
  const before = await readSummary(folder);
  const file = new RunPaths(folder).configFile;
  const sections = before === undefined ? {} : (await readSettings(file, settingsLayout)).sections;
  const run = await openPipeline(folder, resolvedYaml({ ...sections, ...settings }));
  try {
    const results = await body();
    await run.markFinished({ ...before, ...results });
    return results;
  } finally {
    await run.close();
  }
}

interface Frame {
  readonly paths: RunPaths;
  readonly reporter: Reporter;
  readonly stopRequested: () => boolean;
}

/** The run of a step on rank 0, with the functions that note the error that ended it and close its files. */
interface OpenStepRun {
  readonly run: StepRun;
  /** Appends a line to the log alone. */
  readonly logLine: (line: string) => void;
  readonly failed: (error: unknown) => void;
  readonly close: () => void;
}

function openStepRun(name: string, { paths, reporter, stopRequested }: Frame): OpenStepRun {
  const rankLog = new RankLog(paths.rankLogFile(0));
  const logs = [new MetricsLog(paths.metricsFile), new TensorboardLog(paths.tensorboardFolder), rankLog];
  const samples = new JsonlLog(paths.samplesFile);
  let shown: readonly string[] = [];
  const run: StepRun = {
    ...silentRun(paths.folder, stopRequested),
    start(totalSteps, names) {
      shown = names;
      reporter.start(name, totalSteps);
      rankLog.note(`${name}: ${totalSteps} steps`);
    },
    log(step, numbers) {
      for (const log of logs) log.log(step, numbers);
      reporter.update(step, Object.fromEntries(shown.flatMap((key) => (numbers[key] === undefined ? [] : [[key, numbers[key]]]))));
    },
    sample: (record) => samples.append(record),
    note(line) {
      reporter.note(line);
      rankLog.note(line);
    },
  };
  const failed = (error: unknown): void => {
    try {
      rankLog.failure(error);
    } catch (logError) {
      reporter.note(String(logError)); // a full disk; it must not hide the error that ended the step
    }
  };
  const close = (): void => {
    reporter.stop();
    for (const log of [...logs, samples]) log.close();
  };
  return { run, logLine: (line) => rankLog.note(line), failed, close };
}

/** What a step on a rank other than 0 runs in. */
function silentRun(folder: string, stopRequested: () => boolean): StepRun {
  const paths = new RunPaths(folder);
  const nothing = (): void => {};
  return {
    folder,
    modelFolder: paths.modelFolder,
    checkpointFolder: (step) => paths.checkpointFolder(step),
    start: nothing, log: nothing, sample: nothing, note: nothing,
    stopRequested,
  };
}

/** Refuses to reuse a step that was trained with other settings: they would be accepted and not honoured. */
async function checkSettings<F extends Fields>({ name, fields }: Settings<F>, config: ConfigOf<F> & StepConfig): Promise<void> {
  const file = await readSettings(new RunPaths(config.output).configFile, settingsLayout);
  const before = file.sections[name] ?? {};
  const now = savedValues(fields, config);
  const shown = (value: unknown): string => JSON.stringify(value) ?? "not set";
  const changes = Object.entries(fields)
    .filter(([key, field]) => !field.neutral && shown(before[key]) !== shown(now[key]))
    .map(([key]) => `${key} was ${shown(before[key])}, now ${shown(now[key])}`);
  if (changes.length === 0) return;
  throw new ConfigError(
    `${config.output} was trained with other settings: ${changes.join("; ")}; ` +
      "go back to them, choose another --output, or --force to train again",
  );
}

/** Refuses to replace an earlier run while an input is not there: the run would be lost for a mistyped path. */
async function checkPaths(config: StepConfig): Promise<void> {
  for (const [key, value] of Object.entries(config)) {
    if (!["model", "adapter", "actor", "actorAdapter", "rewardModel", "data", "evalData"].includes(key)) continue;
    for (const path of [value].flat()) {
      if (typeof path !== "string" || parseHubId(path) !== undefined || (await exists(path))) continue;
      throw new ConfigError(`${flagOf(key)}: no such file or folder: ${path}; what ${config.output} holds was left as it is`);
    }
  }
}

/** Refuses to reuse a step whose input model was trained again afterwards. */
async function checkInputs(config: StepConfig, finished: RunSummary): Promise<void> {
  for (const path of Object.values(config)) {
    if (typeof path !== "string") continue;
    const model = basename(path) === "adapter" ? dirname(path) : path; // an adapter lies in its model's folder
    if (basename(model) !== "model") continue;
    const input = await readSummary(dirname(model));
    if (input !== undefined && input.finishedAt > finished.finishedAt) {
      throw new ConfigError(
        `${config.output} was trained before its input ${path} was trained again; --force with --step to train it again too`,
      );
    }
  }
}
