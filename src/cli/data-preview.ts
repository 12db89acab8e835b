import { checkSharedConfig, defaultEvalSize } from "../config/common.ts";
import { type SourceSetting, withShape } from "../config/data-sources.ts";
import { stepNames, type StepName } from "../config/step.ts";
import { type DataRecord, RecordError } from "../data/records.ts";
import { shareOf } from "../data/blend.ts";
import type { DataSource } from "../data/sources/source.ts";
import { ConfigError } from "../errors.ts";
import { formatNumber, table } from "../metrics/format.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { PreviewConfig } from "./data-config.ts";
import { characterLength, histogram, limitOf, percent, serves, tokenLengths } from "./data-lengths.ts";
import { readSource } from "./data-records.ts";
import { textSample, tokenSample } from "./data-samples.ts";
import { exitCodes } from "./exit-codes.ts";
import { Tally } from "./tally.ts";
import { columnsOf, painter, showsColor, type TextOutput, visible } from "./terminal-text.ts";

/**
 * Prints what each step makes of the data. Everything is read once; a byte per record, the first records and a random choice are kept.
 *
 * @throws {ConfigError} for settings that are wrong, a path that is missing, and data without a record that can be read
 */
export async function preview(config: PreviewConfig, output: TextOutput): Promise<number> {
  checkSharedConfig(config);
  const scans: Scan[] = [];
  const chosen = new Reservoir(config.lengthSamples, config.seed);
  const problems = new Tally(), shapes = new Tally();
  for (const source of withShape(config.data, config)) scans.push(await scan(source, { problems, shapes, chosen }));
  const evalScans: Scan[] = [];
  for (const source of withShape(config.evalData === undefined ? [] : [config.evalData], config)) {
    evalScans.push(await scan(source, { problems, shapes, chosen: new Reservoir(0, 0) }));
  }
  const page = new Page(output, config);
  page.records(shapes, problems);
  page.steps(scans, evalScans);
  const tokenizer = config.model === undefined ? undefined : await Tokenizer.load(config.model);
  await page.lengths(chosen, tokenizer);
  await page.samples(scans, chosen, tokenizer);
  return exitCodes.ok;
}

/** What a step can do with a record: a bit for each step, 0 for one that is skipped, `REFUSED` for one that cannot be read. */
const BIT = { sft: 1, reward: 2, ppo: 4 } as const satisfies Record<StepName, number>;
const REFUSED = 8;
const NEEDS = { sft: "an answer to imitate", reward: "a chosen and a rejected answer", ppo: "a prompt" } as const;

/** What is kept of a source. */
interface Scan {
  readonly source: DataSource;
  /** A code for each record. */
  readonly codes: Uint8Array;
  /** The first records that can be read. */
  readonly first: readonly DataRecord[];
}

const NUM_FIRST = 100;

async function scan(
  entry: string | SourceSetting, { problems, shapes, chosen }: { problems: Tally; shapes: Tally; chosen: Reservoir },
): Promise<Scan> {
  const source = typeof entry === "string" ? { path: entry } : entry;
  let codes = new Uint8Array(1024), count = 0;
  const first: DataRecord[] = [];
  const onBadFile = (path: string, error: ConfigError): void => problems.add(`refused: ${error.message}`, path);
  for await (const { result, path, line, shape } of readSource(source, onBadFile)) {
    const where = `${path}:${line}`;
    if (count === codes.length) {
      const larger = new Uint8Array(2 * count);
      larger.set(codes);
      codes = larger;
    }
    shapes.add(shape, where);
    if (result instanceof RecordError) {
      const field = result.field === undefined ? "" : `field "${result.field.replace(/\[\d+\]/g, "[n]")}": `;
      problems.add(`refused: ${field}${result.problem.split(";")[0]}`, where);
      codes[count++] = REFUSED;
    } else if (result.kind === "skipped") {
      problems.add(`skipped: ${result.reason}`, where);
      codes[count++] = 0;
    } else {
      codes[count++] = stepNames.reduce((bits, step) => bits | (serves(result, step) ? BIT[step] : 0), 0);
      if (first.length < NUM_FIRST) first.push(result);
      chosen.add(result);
    }
  }
  return { source, codes: codes.subarray(0, count), first };
}

/** A random choice among all records that pass by, each with the same chance (algorithm R). */
class Reservoir {
  readonly records: DataRecord[] = [];
  numSeen = 0;
  readonly #size: number;
  #state: number;

  constructor(size: number, seed: number) {
    this.#size = size;
    this.#state = seed >>> 0;
  }

  add(record: DataRecord): void {
    this.numSeen++;
    if (this.records.length < this.#size) this.records.push(record);
    else {
      const place = Math.floor(this.#random() * this.numSeen);
      if (place < this.#size) this.records[place] = record;
    }
  }

  /** In [0, 1), by mulberry32: the choice is for display, the same with the same seed. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** How many records a step gets. */
interface StepCounts {
  readonly share: number;
  readonly usable: number;
  readonly skipped: number;
  /** Records that end training with an error: malformed, or without what the step needs. */
  readonly refused: number;
}

function countsOf(scans: readonly Scan[], step: StepName, { dataSplit, seed }: PreviewConfig): StepCounts {
  const total = { share: 0, usable: 0, skipped: 0, refused: 0 };
  for (const { source: { steps }, codes } of scans) {
    if (steps?.includes(step) === false) continue;
    const { isIn } = shareOf(codes.length, step, { split: dataSplit, seed, steps });
    for (const [row, code] of codes.entries()) {
      if (isIn[row] !== 1) continue;
      total.share++;
      if (code === 0) total.skipped++;
      else if ((code & BIT[step]) !== 0) total.usable++;
      else total.refused++;
    }
  }
  return total;
}

/** Prints the parts of a preview. */
class Page {
  readonly #output: TextOutput;
  readonly #config: PreviewConfig;
  readonly #columns: number;
  readonly #paint: ReturnType<typeof painter>;

  constructor(output: TextOutput, config: PreviewConfig) {
    this.#output = output;
    this.#config = config;
    this.#columns = columnsOf(output);
    this.#paint = painter(output);
  }

  records(shapes: Tally, problems: Tally): void {
    this.#title("Records");
    for (const line of shapes.lines(this.#columns)) this.#write(line);
    if (problems.size === 0) return;
    this.#write();
    this.#title("Skipped and refused (tschat data validate lists every one)");
    for (const line of problems.lines(this.#columns)) this.#write(line);
  }

  steps(scans: readonly Scan[], evalScans: readonly Scan[]): void {
    const { dataSplit, evalData, evalSize } = this.#config;
    const rows = stepNames.map((step) => {
      const { share, usable, skipped, refused } = countsOf(scans, step, this.#config);
      const evaluation = countsOf(evalScans, step, this.#config);
      const heldOut = evalData === undefined ? Math.min(evalSize ?? defaultEvalSize, usable) : evaluation.usable;
      const train = evalData === undefined ? usable - heldOut : usable;
      const stops = refused === 0 ? [] : [usable === 0 ? `${step} cannot use this data: ${NEEDS[step]}`
        : `${step} would stop at the ${formatNumber(refused)} refused; it needs ${NEEDS[step]}`];
      return { cells: [step, ...[share, skipped, refused, heldOut, train].map(formatNumber)], stops };
    });
    this.#write();
    this.#title(`What each step gets (${dataSplit === undefined ? "all records; --data-split divides them" : `split ${dataSplit}`})`);
    this.#write(table(["step", "records", "skipped", "refused", "held out", "to train on"], rows.map(({ cells }) => cells)));
    for (const line of rows.flatMap(({ stops }) => stops)) this.#write(`  ${this.#paint("yellow", line)}`);
  }

  async lengths(chosen: Reservoir, tokenizer: Tokenizer | undefined): Promise<void> {
    const { records, numSeen } = chosen;
    if (records.length === 0) return;
    const drawn = records.length < numSeen ? `, ${formatNumber(records.length)} records drawn from ${formatNumber(numSeen)}` : "";
    const look = { columns: this.#columns, paint: this.#paint };
    if (tokenizer === undefined) {
      this.#write();
      this.#title(`Lengths in characters${drawn} (--model counts tokens)`);
      for (const line of histogram(records.map(characterLength), look)) this.#write(line);
      return;
    }
    for (const step of this.#config.step === undefined ? stepNames : [this.#config.step]) {
      const usable = records.filter((record) => serves(record, step));
      if (usable.length === 0) continue;
      const { setting, limit } = limitOf(step, this.#config);
      const lengths = await tokenLengths(usable, step, tokenizer);
      this.#write();
      this.#title(`Lengths for ${step} in tokens${drawn}`);
      for (const line of histogram(lengths, { ...look, limit })) this.#write(line);
      const over = lengths.filter((length) => length > limit).length;
      const share = `${percent(over, lengths.length)} longer than ${setting} ${limit}`;
      this.#write(`  ${over === 0 ? share : this.#paint("red", share)}`);
    }
  }

  async samples(scans: readonly Scan[], chosen: Reservoir, tokenizer: Tokenizer | undefined): Promise<void> {
    const { limit, model } = this.#config;
    const records = [...new Set([...scans.flatMap(({ first }) => first), ...chosen.records])]; // the choice holds some of the first too
    const step = this.#config.step ?? stepNames.find((name) => records.some((record) => serves(record, name)));
    const shown = step === undefined ? [] : records.filter((record) => serves(record, step)).slice(0, limit);
    if (step === undefined || limit === 0) return;
    if (shown.length === 0) throw new ConfigError(`--step ${step}: expected records that ${step} can use, found none; leave --step out`);
    const style = { columns: this.#columns, paint: this.#paint, showsColor: showsColor(this.#output) };
    this.#write();
    const marks = { sft: "{+ +} is learned", reward: "answers in {+ +}", ppo: "prompts" };
    const colors = { sft: "green is learned", reward: "chosen in green, rejected in red", ppo: "prompts" };
    const legend = (style.showsColor ? colors : marks)[step];
    this.#title(`Samples for ${step}${model === undefined ? " (--model shows tokens)" : ` (${legend})`}`);
    for (const record of shown) {
      const lines = tokenizer === undefined ? textSample(record, style) : await tokenSample(record, step, tokenizer, style);
      for (const line of lines) this.#write(line);
      this.#write();
    }
  }

  #title(text: string): void {
    this.#write(this.#paint("bold", visible(text)));
  }

  #write(line = ""): void {
    this.#output.write(`${line}\n`);
  }
}
