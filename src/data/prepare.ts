import { ConfigError } from "../errors.ts";
import { blend, offsetsOf, partOf, shareOf, sourcesFor } from "./blend.ts";
import { preferenceCodec, promptCodec, type SampleCodec, sftCodec } from "./cache/sample-codec.ts";
import type { TokenCache } from "./cache/token-cache.ts";
import { checkSources, type FileStatistics, noRecords } from "./dataset.ts";
import { type DrawnSet, epochCounts } from "./drawn-sets.ts";
import { checkSomeFit, type PreferencePair, type PromptSample, type RecordEncoder, type SftSample } from "./encode.ts";
import { encodeSource } from "./encode-source.ts";
import { dataFiles } from "./files/read.ts";
import { holdOutNumbers } from "./hold-out.ts";
import type { ReasonCounts, StepRecords } from "./records.ts";
import { countReasons, type EncodedSource, type Samples, take } from "./samples.ts";
import { hubNameOf } from "./sources/locate.ts";
import type { DataSource } from "./sources/source.ts";
import type { Step } from "./split.ts";

/** The sample type that each step trains on. */
export interface StepSamples {
  sft: SftSample;
  reward: PreferencePair;
  dpo: PreferencePair;
  ppo: PromptSample;
}

/** Settings of `prepareData`. */
export interface PrepareOptions<S extends Step> {
  readonly encoder: RecordEncoder<StepRecords[S], StepSamples[S]>;
  /** Decides the three-way split, the order of blended sources, and what is held out. */
  readonly seed: number;
  /** As in `loadDataset`. */
  readonly split?: string | undefined;
  readonly heldOutShare?: number | undefined;
  readonly heldOutPaths?: readonly (string | DataSource)[] | undefined;
  /** Where encoded data are kept; without it samples stay in memory. */
  readonly cache?: TokenCache | undefined;
  /** Told how far encoding is. */
  readonly note?: (line: string) => void;
}

/** Encoded data of one step. */
export interface PreparedData<T> {
  readonly train: Samples<T>;
  readonly heldOut: readonly T[];
  /** Samples of an epoch: all of `train`, or with weights as many as there are, in their proportions. */
  readonly epochSize: number;
  /** For `trainingBatches`, if the sources have weights. */
  readonly sets: readonly DrawnSet[] | undefined;
  /** One entry per source; those that are held out last. */
  readonly statistics: readonly SourceStatistics[];
}

/** What became of the lines of one source. */
export interface SourceStatistics extends FileStatistics {
  /** Records that did not encode within their limits, by reason. */
  readonly dropped: ReasonCounts;
  /** Samples that are a part of their record. */
  readonly numTruncated: number;
  /** How many samples there are to train on, and how many of them an epoch takes; there if the source has a weight. */
  readonly drawn?: { readonly numSamples: number; readonly perEpoch: number };
}

/**
 * The samples that `step` trains and evaluates on: the records of `loadDataset`, in the same order, encoded. With a cache the
 * data are encoded once and read from the disk when they are asked for, so they may be larger than memory.
 *
 * @throws {ConfigError} as `loadDataset`, as `encodeSource`, and if no record is short enough
 */
export async function prepareData<S extends Step>(
  sources: readonly (string | DataSource)[], step: S, options: PrepareOptions<S>,
): Promise<PreparedData<StepSamples[S]>> {
  checkSources(options);
  const { seed, heldOutPaths = [], heldOutShare = 0, encoder } = options;
  const training = await encodeAndBlend(sources, step, options);
  const evaluation = heldOutPaths.length === 0 ? undefined : await encodeAndBlend(heldOutPaths, step, options);
  const records = evaluation === undefined
    ? holdOutNumbers(training.order, heldOutShare, seed) : { train: training.order, heldOut: evaluation.order };
  const train = samplesOf(training, records.train, encoder);
  const heldOut = samplesOf(evaluation ?? training, records.heldOut, encoder);
  const sets = drawnSets(training, train.numbers);
  return {
    train, sets,
    heldOut: take(heldOut, Array.from(heldOut.numbers, (_, i) => i)),
    epochSize: sets === undefined ? train.length : sets.reduce((sum, { count }) => sum + count, 0),
    statistics: [
      ...statisticsOf(training).map((statistics, i) => ({ ...statistics, ...drawnOf(sets?.[i]) })),
      ...(evaluation === undefined ? [] : statisticsOf(evaluation)),
    ],
  };
}

/** Looks for a step's data files: a wrong path is told before a model is loaded. @throws {ConfigError} as `dataFiles` */
export function checkDataFiles(
  sources: readonly (string | DataSource)[], step: Step, { heldOutPaths = [] }: Pick<PrepareOptions<Step>, "heldOutPaths" | "heldOutShare">,
): void {
  for (const { path } of [...sourcesFor(sources, step), ...sourcesFor(heldOutPaths, step)]) {
    if (hubNameOf(path) === undefined) dataFiles(path); // what is on the hub has been downloaded before
  }
}

interface Blended<T> {
  readonly sources: readonly DataSource[];
  readonly encoded: readonly EncodedSource<T>[];
  /** Where the entries of each source begin when all are counted together. */
  readonly offsets: readonly number[];
  /** The records, as numbers of entries counted so, in their order. */
  readonly order: Uint32Array;
}

async function encodeAndBlend<S extends Step>(
  given: readonly (string | DataSource)[], step: S, options: PrepareOptions<S>,
): Promise<Blended<StepSamples[S]>> {
  const { seed, split, encoder, cache, note = () => {} } = options;
  const sources = sourcesFor(given, step);
  const encoded: EncodedSource<StepSamples[S]>[] = [];
  for (const source of sources) encoded.push(await encodeSource(source, { step, split, seed, encoder, codec: CODECS[step], cache, note }));
  const parts = encoded.map(({ numLines, status, reasons }, i) => {
    const { steps } = sources[i]!;
    const isRecord = (entry: number) => reasons[status[entry]! - 2]?.kind !== "skipped";
    const { order } = shareOf(numLines, step, { split, seed, steps });
    return { size: status.length, order: order.filter(isRecord), isExtra: steps !== undefined };
  });
  const order = blend(parts, seed);
  const blended = { sources, encoded, offsets: offsetsOf(parts.map(({ size }) => size)), order };
  if (order.length === 0) throw noRecords(step, statisticsOf(blended));
  return blended;
}

const CODECS: { readonly [S in Step]: SampleCodec<StepSamples[S]> } = {
  sft: sftCodec, reward: preferenceCodec, dpo: preferenceCodec, ppo: promptCodec,
};

/** The samples among records, without those that did not encode. */
function samplesOf<T>(
  { encoded, offsets }: Blended<T>, records: Uint32Array, encoder: Pick<RecordEncoder<never, T>, "setting" | "limit">,
): Samples<T> & { readonly numbers: Uint32Array } {
  const entryOf = (number: number) => {
    const part = partOf(offsets, number);
    return { source: encoded[part]!, entry: number - offsets[part]! };
  };
  let shortest = Infinity;
  const numbers = records.filter((number) => {
    const { source, entry } = entryOf(number);
    shortest = Math.min(shortest, source.lengths[entry]!);
    return source.status[entry]! < 2;
  });
  checkSomeFit(encoder, { numRecords: records.length, numSamples: numbers.length, shortest });
  return {
    numbers,
    length: numbers.length,
    at(index) {
      const number = numbers[index];
      if (number === undefined) return undefined;
      const { source, entry } = entryOf(number);
      return source.sampleAt(entry);
    },
  };
}

/** The sets of sources with weights; undefined without. @throws {ConfigError} for a source of which nothing is left to draw */
function drawnSets<T>({ sources, offsets }: Blended<T>, numbers: Uint32Array): DrawnSet[] | undefined {
  const weights = sources.flatMap(({ weight }) => weight ?? []);
  if (weights.length === 0) return undefined;
  const rows = sources.map((): number[] => []);
  for (const [row, number] of numbers.entries()) rows[partOf(offsets, number)]!.push(row);
  const counts = epochCounts(rows.map(({ length }) => length), weights);
  return rows.map((own, i) => {
    const { path } = sources[i]!, count = counts[i]!;
    if (own.length === 0 && count > 0) {
      throw new ConfigError(`${path}: expected samples to draw with weight ${weights[i]}, found none left; leave the source out`);
    }
    return { rows: Uint32Array.from(own), count };
  });
}

function drawnOf(set: DrawnSet | undefined): Pick<SourceStatistics, "drawn"> {
  return set === undefined ? {} : { drawn: { numSamples: set.rows.length, perEpoch: set.count } };
}

function statisticsOf<T>({ sources, encoded }: Pick<Blended<T>, "sources" | "encoded">): SourceStatistics[] {
  return encoded.map((entries, i) => {
    const skipped = countReasons(entries, "skipped"), dropped = countReasons(entries, "dropped");
    const numSkipped = Object.values(skipped).reduce((sum, count) => sum + count, 0);
    return {
      path: sources[i]!.path, numLines: entries.numLines, numRecords: entries.status.length - numSkipped, skipped, dropped,
      numTruncated: entries.status.filter((status) => status === 1).length,
    };
  });
}
