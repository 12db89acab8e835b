import { ConfigError } from "../errors.ts";
import { blend, offsetsOf, partOf, shareOf, sourcesFor } from "./blend.ts";
import { readRecords } from "./encode-source.ts";
import { type HeldOut, holdOut } from "./hold-out.ts";
import { countReason, type DataRecord, type ReasonCounts, recordForStep, type SkippedRecord, type StepRecords } from "./records.ts";
import { sourceFiles } from "./sources/locate.ts";
import type { DataSource } from "./sources/source.ts";
import type { Step } from "./split.ts";

/** Settings of `loadDataset`. */
export interface DatasetOptions {
  /** Decides the three-way split, the order of blended sources and what is held out. */
  readonly seed: number;
  /** Shares of SFT, reward model (or DPO) and PPO in every source, such as "2,4,4"; without it each step gets whole sources. */
  readonly split?: string | undefined;
  /** What to hold out of `sources` for evaluation, as in `holdOut`; nothing if not given. */
  readonly heldOutShare?: number | undefined;
  /** Sources to evaluate on instead; `split` applies to them too. */
  readonly heldOutPaths?: readonly (string | DataSource)[] | undefined;
}

/** What became of the lines of one source. */
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
  /** One entry per source, those of `heldOutPaths` last. */
  readonly statistics: readonly FileStatistics[];
}

/**
 * The records that `step` trains and evaluates on, in memory; `prepareData` gives the same ones encoded, from the disk. The step's
 * share is taken of each source (a file, or a folder of files), the shares are put one after the other and, if there are several
 * sources, shuffled together: blending and its order are DeepSpeed-Chat's. Weights of sources concern training only and change
 * nothing here.
 *
 * @throws {ConfigError} for a file that cannot be read, a record that is malformed or lacks what the step needs, settings that
 *   contradict each other, and if no record is left
 */
export async function loadDataset<S extends Step>(
  sources: readonly (string | DataSource)[], step: S, options: DatasetOptions,
): Promise<Dataset<StepRecords[S]>> {
  checkSources(options);
  const { seed, heldOutPaths = [], heldOutShare } = options;
  const training = await readAndBlend(sources, step, options);
  if (heldOutPaths.length === 0) return { ...holdOut(training.records, heldOutShare ?? 0, seed), statistics: training.statistics };
  const evaluation = await readAndBlend(heldOutPaths, step, options);
  return { train: training.records, heldOut: evaluation.records, statistics: [...training.statistics, ...evaluation.statistics] };
}

/** @throws {ConfigError} if both a share and sources are held out */
export function checkSources({ heldOutPaths = [], heldOutShare }: Pick<DatasetOptions, "heldOutPaths" | "heldOutShare">): void {
  if (heldOutPaths.length > 0 && heldOutShare !== undefined) {
    throw new ConfigError("held-out data: expected either files or a share of the training data, found both; leave one out");
  }
}

/** The error for data of which nothing is left. */
export function noRecords(step: Step, statistics: readonly FileStatistics[]): ConfigError {
  return new ConfigError(`${step} data: expected at least one record, found none (${summarize(statistics)}); ` +
    "add data or change the split");
}

async function readAndBlend<S extends Step>(given: readonly (string | DataSource)[], step: S, options: DatasetOptions) {
  const sources = sourcesFor(given, step);
  const shares: SourceRecords<StepRecords[S]>[] = [];
  for (const source of sources) shares.push(await readShare(source, step, options));
  const parts = shares.map(({ records, order }, i) => ({ size: records.length, order, isExtra: sources[i]?.steps !== undefined }));
  const offsets = offsetsOf(parts.map(({ size }) => size));
  const statistics = shares.map((share) => share.statistics);
  const records = Array.from(blend(parts, options.seed), (number) => {
    const part = partOf(offsets, number);
    return shares[part]!.records[number - offsets[part]!]!;
  });
  if (records.length === 0) throw noRecords(step, statistics);
  return { records, statistics };
}

interface SourceRecords<R> {
  /** In the order of the file. */
  readonly records: readonly R[];
  /** Indices of `records` in the order of the split. */
  readonly order: Uint32Array;
  readonly statistics: FileStatistics;
}

async function readShare<S extends Step>(
  source: DataSource, step: S, { split, seed }: DatasetOptions,
): Promise<SourceRecords<StepRecords[S]>> {
  const lines: (DataRecord | SkippedRecord)[] = [];
  for await (const line of readRecords(source, await sourceFiles(source.path))) lines.push(line);
  // The split counts every line, skipped ones too, as the original does: so what a step gets never depends on the reasons to skip.
  const share = shareOf(lines.length, step, { split, seed, steps: source.steps });
  const records: StepRecords[S][] = [];
  const skipped: Record<string, number> = {};
  const indices: (number | undefined)[] = []; // of each line of the share; a skipped one has none
  for (const line of lines.filter((_, i) => share.isIn[i] === 1)) {
    if (line.kind === "skipped") countReason(skipped, line.reason);
    indices.push(line.kind === "skipped" ? undefined : records.push(recordForStep(line, step)) - 1);
  }
  const order = Uint32Array.from(Array.from(share.order).flatMap((number) => indices[number] ?? []));
  return { records, order, statistics: { path: source.path, numLines: lines.length, numRecords: records.length, skipped } };
}

function summarize(statistics: readonly FileStatistics[]): string {
  if (statistics.length === 0) return "no files were named";
  return statistics.map(({ path, numLines, skipped }) => {
    const reasons = Object.entries(skipped).map(([reason, count]) => `, ${count} skipped: ${reason}`);
    return `${path}: ${numLines} lines${reasons.join("")}`;
  }).join("; ");
}
