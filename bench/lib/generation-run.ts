import { ConfigError } from "../../src/errors.ts";
import { measureInProcess, type ProcessSettings } from "./measuring-process.ts";
import type { ModelShape, SampledWith } from "./roofline.ts";

/** What one process generates: every prompt is random and every answer has exactly `newTokens` tokens. */
export interface GenerationWorkload extends ProcessSettings {
  model: string;
  batch: number;
  promptLength: number;
  newTokens: number;
  repeats: number;
  /** Left out: the weights as they are. */
  weights?: SampledWith;
  /** Whether to run once more for the time spent in the addon. */
  timesAddon: boolean;
}

/** What a process measured. */
export interface GenerationTimes {
  /** Seconds of generating 1 token and `newTokens` tokens, a pair for each repeat. */
  firstSeconds: number[];
  allSeconds: number[];
  /** Peak resident memory of generating, less what was resident before the model was loaded; the mapped checkpoint is let go first. */
  peakBytes: number;
  /** Part of a decode step that is not spent in the addon, in [0, 1]; NaN when it was not asked for. */
  javascriptShare: number;
}

/** Tokens per second. Decoding is the difference of the two times, so that it has no prefill in it. */
export interface GenerationRates {
  prefill: number[];
  /** NaN for a workload of a single token. */
  decode: number[];
}

/**
 * Measures in a process of its own.
 *
 * @throws {ConfigError} what the process says about the model
 */
export async function measureGeneration(workload: GenerationWorkload): Promise<GenerationTimes> {
  const result = await measureInProcess<GenerationWorkload, GenerationTimes>("generation-process.ts", workload);
  return { ...result, javascriptShare: result.javascriptShare ?? Number.NaN }; // JSON has null for NaN
}

/** The rates of each repeat. */
export function ratesOf({ batch, promptLength, newTokens }: GenerationWorkload, times: GenerationTimes): GenerationRates {
  return {
    prefill: times.firstSeconds.map((first) => (batch * promptLength) / first),
    decode: times.allSeconds.map((all, i) => (batch * (newTokens - 1)) / (all - (times.firstSeconds[i] ?? Number.NaN))),
  };
}

/** @throws {ConfigError} when prompt and answer do not fit the model's context */
export function checkContext({ maxPositions }: ModelShape, promptLength: number, newTokens: number): void {
  if (promptLength + newTokens <= maxPositions) return;
  throw new ConfigError(
    `prompts of ${promptLength} and answers of ${newTokens} tokens do not fit the model's context of ${maxPositions}; shorten one of them`,
  );
}
