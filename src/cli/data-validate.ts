import { rmSync } from "node:fs";
import { type SourceSetting, withShape } from "../config/data-sources.ts";
import { JsonlLog } from "../metrics/jsonl-log.ts";
import { RecordError } from "../data/records.ts";
import type { ConfigError } from "../errors.ts";
import { formatNumber } from "../metrics/format.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { problemOf } from "./data-checks.ts";
import type { ValidateConfig } from "./data-config.ts";
import { type Lengths, lengthCounter } from "./data-lengths.ts";
import { type ReadRecord, readSource } from "./data-records.ts";
import { exitCodes } from "./exit-codes.ts";
import { SeenTexts } from "./seen-texts.ts";
import { clip, columnsOf, type Paint, painter, type TextOutput, visible } from "./terminal-text.ts";
import { Tally } from "./tally.ts";

/** A bad record, as `--report` writes it. */
interface Finding {
  readonly file: string;
  readonly line: number | undefined;
  readonly field: string | undefined;
  readonly reason: string;
}

/**
 * Reads all data, prints what is wrong and a summary, and gives the exit code: 1 if a record or file is bad.
 * Duplicates, records that are skipped and those that are too long are counted, and are not bad.
 *
 * @throws {ConfigError} for settings that are wrong and a path that is missing
 */
export async function validate(config: ValidateConfig, output: TextOutput): Promise<number> {
  const checkers = { findings: new Findings(config, output), notes: new Tally(), lengths: undefined as Lengths | undefined };
  if (config.model !== undefined) checkers.lengths = lengthCounter(await Tokenizer.load(config.model), config);
  const train = new SeenTexts();
  const shapes = new Tally();
  const numTrain = await readAll(config.data, config, { ...checkers, shapes, seen: [{ name: "the training data", prompts: train }] });
  const evalPaths = config.evalData === undefined ? [] : [config.evalData];
  const seen = [{ name: "the held-out data", prompts: new SeenTexts() }, { name: "both training and held-out data", prompts: train }];
  const numEval = await readAll(evalPaths, config, { ...checkers, shapes, seen });
  checkers.findings.close();
  print(output, config, { numTrain, numEval, shapes, ...checkers });
  return checkers.findings.count > 0 ? exitCodes.failure : exitCodes.ok;
}

interface Pass {
  readonly findings: Findings;
  readonly shapes: Tally;
  readonly notes: Tally;
  readonly lengths: Lengths | undefined;
  /** Prompts read so far: the first set takes those of this pass. */
  readonly seen: readonly { readonly name: string; readonly prompts: SeenTexts }[];
}

/** Checks every record of some paths and gives their number. */
async function readAll(paths: readonly (string | SourceSetting)[], config: ValidateConfig, pass: Pass): Promise<number> {
  let count = 0;
  for (const entry of withShape(paths, config)) {
    const source = typeof entry === "string" ? { path: entry } : entry;
    const onBadFile = (path: string, error: ConfigError): void => pass.findings.add(fileFinding(path, error), undefined);
    for await (const record of readSource(source, onBadFile)) {
      count++;
      await check(record, pass);
    }
  }
  await pass.lengths?.finish(pass.notes);
  return count;
}

/** The finding for a file that could not be read to its end; its message begins with `path:` or `path:line:`. */
function fileFinding(file: string, { message }: ConfigError): Finding {
  const text = message.startsWith(`${file}:`) ? message.slice(file.length + 1) : message;
  const [, line, reason = text] = /^(?:(\d+):)?\s*([\s\S]*)$/.exec(text) ?? [];
  return { file, line: line === undefined ? undefined : Number(line), field: undefined, reason: `${reason} (nothing behind it was read)` };
}

async function check(record: ReadRecord, { findings, shapes, notes, lengths, seen }: Pass): Promise<void> {
  const { result, path: file, line } = record;
  const where = `${file}:${line}`;
  shapes.add(record.shape, where);
  if (result instanceof RecordError) {
    findings.add({ file, line, field: result.field, reason: result.problem }, record.value);
    return;
  }
  if (result.kind === "skipped") {
    notes.add(`skipped: ${result.reason}`, where);
    return;
  }
  const problem = problemOf(result);
  if (problem !== undefined) findings.add({ file, line, field: problem.field, reason: problem.problem }, record.value);
  const prompt = result.prompt === "" && "answer" in result ? result.answer : JSON.stringify(result.prompt);
  for (const [i, { name, prompts }] of seen.entries()) {
    const isRepeat = i === 0 ? !prompts.add(prompt) : prompts.has(prompt);
    if (isRepeat) notes.add(`repeats: the same prompt occurs again in ${name}`, where);
  }
  await lengths?.add(result, notes);
}

/** Bad records: the first are printed, all are written to the report, and each reason is counted. */
class Findings {
  readonly reasons = new Tally();
  count = 0;
  readonly #show: number;
  readonly #output: TextOutput;
  readonly #paint: Paint;
  #report: JsonlLog | undefined;

  constructor({ show, report }: ValidateConfig, output: TextOutput) {
    this.#show = show;
    this.#output = output;
    this.#paint = painter(output);
    if (report === undefined) return;
    rmSync(report, { force: true }); // a report is of one run
    this.#report = new JsonlLog(report);
  }

  add({ file, line, field, reason }: Finding, value: unknown): void {
    this.count++;
    const where = line === undefined ? file : `${file}:${line}`;
    // Numbers of messages and places in a line differ from record to record; the reason is the same.
    const named = field === undefined ? "" : `field "${field.replace(/\[\d+\]/g, "[n]")}": `;
    this.reasons.add(`${named}${reason.split(";")[0]?.replace(/ at position .*/, "").replace(/\d+/g, "n")}`, where);
    this.#report?.append({ file, ...(line === undefined ? {} : { line }), ...(field === undefined ? {} : { field }), reason });
    if (this.count > this.#show) return;
    const message = `${where}: ${field === undefined ? "" : `field "${field}": `}${reason}`;
    this.#output.write(`${this.#paint("red", "bad")}  ${visible(message)}\n`);
    if (value === undefined) return;
    this.#output.write(`${this.#paint("dim", `     ${clip(visible(JSON.stringify(value)), columnsOf(this.#output) - 5)}`)}\n`);
  }

  close(): void {
    this.#report?.close();
  }
}

interface Summary {
  readonly numTrain: number;
  readonly numEval: number;
  readonly shapes: Tally;
  readonly notes: Tally;
  readonly findings: Findings;
}

function print(output: TextOutput, config: ValidateConfig, { numTrain, numEval, shapes, notes, findings }: Summary): void {
  const paint = painter(output), columns = columnsOf(output);
  const write = (line = ""): void => {
    output.write(`${line}\n`);
  };
  const { count, reasons } = findings;
  const advice = config.report === undefined ? "; --report writes all to a file" : "";
  if (count > config.show) write(paint("dim", `     ${formatNumber(count - config.show)} more${advice}`));
  if (count > 0 && config.show > 0) write();
  write(paint("bold", "Records"));
  for (const line of shapes.lines(columns)) write(line);
  if (notes.size > 0) {
    write(`\n${paint("bold", "Not bad, but good to know")}`);
    for (const line of notes.lines(columns)) write(line);
  }
  if (count > 0) {
    write(`\n${paint("bold", "Bad")}`);
    for (const line of reasons.lines(columns)) write(line);
  }
  const held = config.evalData === undefined ? "" : ` and ${formatNumber(numEval)} held-out`;
  const verdict = count === 0 ? paint("green", "all good") : paint("red", `${formatNumber(count)} bad`);
  const report = config.report === undefined ? "" : `; every bad one is in ${config.report}`;
  write(`\n${formatNumber(numTrain)}${held} records: ${verdict}${report}`);
}
