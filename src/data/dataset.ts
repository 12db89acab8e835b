import { ConfigError } from "../errors.ts";
import { resolveDataset } from "../hub/resolve.ts";
import { type HeldOut, holdOut } from "./hold-out.ts";
import { readJsonl } from "./jsonl.ts";
import { countReason, type DataRecord, type ReasonCounts, recordForStep, type SkippedRecord, type StepRecords } from "./records.ts";
import { shuffleIndices } from "./shuffle.ts";
import { parseRecord } from "./sources/parse-record.ts";
import { splitForStep, type Step } from "./split.ts";

/** Settings of `loadDataset`. */
export interface DatasetOptions {
  /** Decides the three-way split, the order of blended files and what is held out. */
  readonly seed: number;
  /** Shares of SFT, reward model (or DPO) and PPO in every file, such as "2,4,4"; without it each step gets whole files. */
  readonly split?: string | undefined;
  /** What to hold out of `paths` for evaluation, as in `holdOut`; nothing if not given. */
  readonly heldOutShare?: number | undefined;
  /** Files to evaluate on instead; `split` applies to them too. */
  readonly heldOutPaths?: readonly string[] | undefined;
}

/** What became of the lines of one file. */
export interface FileStatistics {
  readonly path: string;
  /** Lines that are not blank. */
  readonly numLines: number;
  /** Records that the step got. */
  readonly numRecords: number;
  /** Lines of the step's share that no step can learn from, by reason. */
  readonly skipped: ReasonCounts;
}

/** The records of one step, for training and for evaluation. */
export interface Dataset<R> extends HeldOut<R> {
  /** One entry per file, those of `heldOutPaths` last. */
  readonly statistics: readonly FileStatistics[];
}

/**
 * The records that `step` trains and evaluates on. Files are read whole, the step's share is taken of each, the shares are
 * put one after the other and, if there are several files, shuffled together: blending and its order are DeepSpeed-Chat's.
 *
 * @throws {ConfigError} for a file that cannot be read, a record that is malformed or lacks what the step needs, settings that
 *   contradict each other, and if no record is left
 */
export async function loadDataset<S extends Step>(
  paths: readonly string[], step: S, options: DatasetOptions,
): Promise<Dataset<StepRecords[S]>> {
  const { seed, heldOutPaths = [], heldOutShare } = options;
  if (heldOutPaths.length > 0 && heldOutShare !== undefined) {
    throw new ConfigError("held-out data: expected either files or a share of the training data, found both; leave one out");
  }
  const training = await blend(paths, step, options);
  if (heldOutPaths.length === 0) return { ...holdOut(training.records, heldOutShare ?? 0, seed), statistics: training.statistics };
  const evaluation = await blend(heldOutPaths, step, options);
  return { train: training.records, heldOut: evaluation.records, statistics: [...training.statistics, ...evaluation.statistics] };
}

async function blend<S extends Step>(paths: readonly string[], step: S, options: DatasetOptions) {
  const shares: Share<StepRecords[S]>[] = [];
  for (const pathOrId of paths) {
    for (const path of await resolveDataset(pathOrId)) shares.push(await readShare(path, step, options));
  }
  const records = shares.flatMap((share) => share.records);
  const statistics = shares.map((share) => share.statistics);
  if (records.length === 0) {
    throw new ConfigError(`${step} data: expected at least one record, found none (${summarize(statistics)}); ` +
      "add data or change the split");
  }
  if (shares.length === 1) return { records, statistics };
  return { records: Array.from(shuffleIndices(options.seed, records.length), (i) => records[i]!), statistics };
}

interface Share<R> {
  readonly records: readonly R[];
  readonly statistics: FileStatistics;
}

async function readShare<S extends Step>(path: string, step: S, { split, seed }: DatasetOptions): Promise<Share<StepRecords[S]>> {
  const lines = await readRecords(path);
  // The split counts every line, skipped ones too, as the original does: so what a step gets never depends on the reasons to skip.
  const share = split === undefined ? lines : splitForStep(lines.length, split, seed, step).map((i) => lines[i]!);
  const records: StepRecords[S][] = [];
  const skipped: Record<string, number> = {};
  for (const line of share) {
    if (line.kind === "skipped") countReason(skipped, line.reason);
    else records.push(recordForStep(line, step));
  }
  return { records, statistics: { path, numLines: lines.length, numRecords: records.length, skipped } };
}

async function readRecords(path: string): Promise<(DataRecord | SkippedRecord)[]> {
  const records: (DataRecord | SkippedRecord)[] = [];
  for await (const { value, line } of readJsonl(path)) {
    records.push(parseRecord(value, { path, line }));
  }
  return records;
}

function summarize(statistics: readonly FileStatistics[]): string {
  if (statistics.length === 0) return "no files were named";
  return statistics.map(({ path, numLines, skipped }) => {
    const reasons = Object.entries(skipped).map(([reason, count]) => `, ${count} skipped: ${reason}`);
    return `${path}: ${numLines} lines${reasons.join("")}`;
  }).join("; ");
}
