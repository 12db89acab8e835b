import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { cleanLeftovers, errorCode, explainFailure, writeFileAtomic } from "./atomic.ts";
import { lockFolder, lockName } from "./lock.ts";

/** What `summary.json` of a finished run holds, besides the step's own results. */
export interface RunSummary {
  /** When the run finished, ISO 8601. */
  readonly finishedAt: string;
  readonly [result: string]: unknown;
}

/** How to open a run folder. */
export interface RunOptions {
  /** The text of its `config.yaml`: the resolved settings. */
  readonly config: string;
  /** What of an earlier run may be lost: nothing that is finished or saved, an interrupted run, or a finished one too. */
  readonly replaces: "nothing" | "interrupted" | "finished";
}

const files = {
  config: "config.yaml", summary: "summary.json", metrics: "metrics.jsonl", tensorboard: "tensorboard", samples: "samples.jsonl",
  model: "model",
};
const checkpointName = /^checkpoint-\d{6,}$/;
const rankLogName = /^rank-\d+\.log$/;

/**
 * What lies where in the folder of a run:
 *
 *     config.yaml         the resolved settings
 *     metrics.jsonl       one object per training step
 *     tensorboard/        the same numbers for TensorBoard
 *     rank-0.log          the same, notes and errors as lines with times, a file per process
 *     samples.jsonl       texts
 *     checkpoint-000123/  the model after 123 steps
 *     model/              the final model
 *     summary.json        results; written last, so its presence means finished
 */
export class RunPaths {
  readonly folder: string;

  /** Paths only; nothing is made or read. */
  constructor(folder: string) {
    this.folder = folder;
  }

  get configFile(): string {
    return join(this.folder, files.config);
  }

  get summaryFile(): string {
    return join(this.folder, files.summary);
  }

  get metricsFile(): string {
    return join(this.folder, files.metrics);
  }

  get tensorboardFolder(): string {
    return join(this.folder, files.tensorboard);
  }

  /** `rank-0.log`. */
  rankLogFile(rank: number): string {
    return join(this.folder, `rank-${rank}.log`);
  }

  get samplesFile(): string {
    return join(this.folder, files.samples);
  }

  get modelFolder(): string {
    return join(this.folder, files.model);
  }

  /** `checkpoint-000123`, for 123 finished steps. */
  checkpointFolder(step: number): string {
    return join(this.folder, `checkpoint-${String(step).padStart(6, "0")}`);
  }
}

/** A run folder that this process holds the lock of. Made by `openRun` and `openPipeline`. */
export class RunFolder extends RunPaths {
  readonly #unlock: () => Promise<void>;

  /** @param unlock gives the lock back */
  constructor(folder: string, unlock: () => Promise<void>) {
    super(folder);
    this.#unlock = unlock;
  }

  /** Writes `summary.json`, which makes the run a finished one. @throws {ConfigError} when it cannot be written */
  async markFinished(results: object): Promise<RunSummary> {
    const summary = { ...results, finishedAt: new Date().toISOString() };
    await writeFileAtomic(this.summaryFile, `${JSON.stringify(summary, null, 2)}\n`);
    return summary;
  }

  /** Lets go of the folder. */
  async close(): Promise<void> {
    await this.#unlock();
  }
}

/**
 * Opens a folder for a new run: makes it, locks it against other processes, clears what a crash left and writes `config.yaml`.
 *
 * @throws {ConfigError} when another run is in the folder, when it holds an earlier run that `replaces` protects, when it holds
 *   something else than a run, or when it cannot be written
 */
export async function openRun(folder: string, { config, replaces }: RunOptions): Promise<RunFolder> {
  return open(folder, config, (names) => {
    const last = names.filter((name) => checkpointName.test(name)).sort().at(-1);
    if (replaces !== "finished" && names.includes(files.summary)) {
      throw new ConfigError(`--output: ${folder} holds a finished run; choose another folder, or --force to train again and replace it`);
    }
    if (replaces === "nothing" && last !== undefined) {
      throw new ConfigError(
        `--output: ${folder} holds an interrupted run with ${last}; choose another folder, or --force to start over and lose it`,
      );
    }
    return names.filter((name) => Object.values(files).includes(name) || checkpointName.test(name) || rankLogName.test(name));
  });
}

/**
 * Opens the folder around the runs of several steps, which lie in its subfolders and stay as they are.
 *
 * @throws {ConfigError} as `openRun`, and when the folder holds the run of a single step
 */
export async function openPipeline(folder: string, config: string): Promise<RunFolder> {
  return open(folder, config, (names) => {
    if (names.includes(files.metrics) || names.includes(files.model)) {
      throw new ConfigError(`--output: ${folder} holds the run of a single step; choose another folder for a run of several`);
    }
    return [files.summary];
  });
}

/** @param choose gets the names in a run folder that was there before, and gives those to remove */
async function open(folder: string, config: string, choose: (names: string[]) => string[]): Promise<RunFolder> {
  return explainFailure(folder, async () => {
    await mkdir(folder, { recursive: true });
    const unlock = await lockFolder(folder);
    try {
      await cleanLeftovers(folder);
      const names = (await readdir(folder)).filter((name) => name !== lockName);
      if (names.length > 0 && !names.includes(files.config)) {
        const some = names.slice(0, 3).join(", ");
        throw new ConfigError(`--output: ${folder} is not a run folder and not empty (it holds ${some}); choose another`);
      }
      // summary.json first: a crash in between must not leave a run that looks finished.
      const removed = names.length > 0 ? choose(names) : [];
      for (const name of removed.sort((a, b) => Number(b === files.summary) - Number(a === files.summary))) {
        await rm(join(folder, name), { recursive: true, force: true });
      }
      await writeFileAtomic(join(folder, files.config), config);
    } catch (error) {
      await unlock();
      throw error;
    }
    return new RunFolder(folder, unlock);
  });
}

/** The summary of a finished run; undefined when the folder holds none. @throws {ConfigError} when `summary.json` is damaged */
export async function readSummary(folder: string): Promise<RunSummary | undefined> {
  const path = new RunPaths(folder).summaryFile;
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as RunSummary;
  } catch (cause) {
    throw new ConfigError(`${path}: not valid JSON; remove the file to train again`, { cause });
  }
}
