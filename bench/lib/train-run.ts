import { ConfigError } from "../../src/errors.ts";
import { measureInProcess, type ProcessSettings } from "./measuring-process.ts";
import type { ModelShape } from "./roofline.ts";

/** What one process trains: random sequences of one length, all of whose tokens count. */
export interface TrainWorkload extends ProcessSettings {
  model: string;
  /** Sequences of an optimizer step. */
  batch: number;
  /** Tokens of a sequence. */
  length: number;
  /** Most tokens of a forward. */
  microBatchTokens: number;
  /** Whether blocks are recomputed going backward. */
  checkpointing: boolean;
  /** Of adapters on all linears, which then train alone; 0 trains the weights. */
  loraRank: number;
  /** Steps to measure, after one of warm-up. */
  repeats: number;
}

/** Seconds of one optimizer step, over all its micro-batches. */
export interface StepSeconds {
  forwardSeconds: number;
  backwardSeconds: number;
  /** Clipping, AdamW and clearing the gradients. */
  optimizerSeconds: number;
}

/** What a process measured. */
export interface TrainTimes {
  steps: StepSeconds[];
  /** Part of a step that is not spent in the addon, in [0, 1]. */
  javascriptShare: number;
  /** Part of the steps in which a garbage collection held JavaScript up, in [0, 1]. */
  gcShare: number;
  /** Resident before the model was loaded, and at most since the process started. */
  baseBytes: number;
  peakResidentBytes: number;
}

/**
 * Measures in a process of its own.
 *
 * @throws {ConfigError} what the process says about the model
 */
export function measureTraining(workload: TrainWorkload): Promise<TrainTimes> {
  return measureInProcess("train-process.ts", workload);
}

/** Seconds of a whole step. */
export function secondsOfStep({ forwardSeconds, backwardSeconds, optimizerSeconds }: StepSeconds): number {
  return forwardSeconds + backwardSeconds + optimizerSeconds;
}

/** @throws {ConfigError} when a sequence does not fit the model's context or a forward, or has nothing to predict */
export function checkLength({ maxPositions }: ModelShape, length: number, microBatchTokens: number): void {
  if (length < 2) throw new ConfigError(`--length: expected at least 2 tokens, the first of which is given, got ${length}`);
  if (length > maxPositions) throw new ConfigError(`--length: expected at most the model's context of ${maxPositions}, got ${length}`);
  if (length <= microBatchTokens) return;
  throw new ConfigError(
    `--micro-batch-tokens: expected at least --length ${length}, got ${microBatchTokens}; a sequence must fit into one forward`,
  );
}
