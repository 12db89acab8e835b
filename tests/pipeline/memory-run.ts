import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Metrics, StepRun } from "../../src/config/step.ts";

/** The surroundings of a step with everything kept in memory: what it logged, noted and sampled. */
export class MemoryRun implements StepRun {
  readonly folder: string;
  readonly logged: { step: number; metrics: Metrics }[] = [];
  readonly notes: string[] = [];
  readonly samples: Readonly<Record<string, unknown>>[] = [];
  totalSteps = 0;
  /** A stop is requested once this many lines are logged. */
  stopAfter = Infinity;

  /** @param folder where models go; the run itself makes nothing */
  constructor(folder: string) {
    this.folder = folder;
  }

  get modelFolder(): string { return join(this.folder, "model"); }
  readonly checkpointFolder = (step: number): string => join(this.folder, `checkpoint-${step}`);
  readonly start = (totalSteps: number): void => { this.totalSteps = totalSteps; };
  readonly log = (step: number, metrics: Metrics): void => { this.logged.push({ step, metrics }); };
  readonly sample = (record: Readonly<Record<string, unknown>>): void => { this.samples.push(record); };
  readonly note = (line: string): void => { this.notes.push(line); };
  readonly stopRequested = (): boolean => this.logged.length >= this.stopAfter;

  /** The values of one metric in the order of the steps that logged it. */
  series(name: string): number[] {
    return this.logged.flatMap(({ metrics }) => (metrics[name] === undefined ? [] : [metrics[name]]));
  }
}

/** Writes records as a JSONL file and returns its path. */
export function writeJsonl(path: string, records: readonly object[]): string {
  writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  return path;
}
