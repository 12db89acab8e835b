import type { HybridEngine } from "../engine/hybrid-engine.ts";
import { padRight } from "../model/packing.ts";
import type { Rollout } from "./records.ts";

/** How answers are sampled. */
export interface RolloutOptions {
  maxNewTokens: number;
  minNewTokens: number;
  temperature: number;
  samplesPerPrompt: number;
  /** Of the draws of the whole run. */
  seed: number;
  /** Token that ends an answer. */
  endToken: number;
  /** Prompts sampled before in this run, so that no two answers share their draws. */
  promptsBefore: number;
  stopRequested?: (() => boolean) | undefined;
}

/**
 * Samples `samplesPerPrompt` answers to every prompt; those to one prompt follow each other. The engine then leaves its generate mode:
 * what follows is scoring and training, which need the cache's memory.
 */
export function rollOut(engine: HybridEngine, prompts: readonly (readonly number[])[], options: RolloutOptions): Rollout {
  const { samplesPerPrompt, promptsBefore, endToken, stopRequested, ...sampling } = options;
  const { responses, logprobs, finishReasons } = engine.generate(prompts, {
    ...sampling, samplesPerPrompt, eosTokenId: endToken, firstRequest: promptsBefore * samplesPerPrompt,
    ...(stopRequested ? { stopRequested } : {}),
  });
  engine.enterTrain();
  const repeated = prompts.flatMap((prompt) => Array.from({ length: samplesPerPrompt }, () => prompt));
  const width = Math.max(...responses.map((response) => response.length));
  const responseMask = padRight(responses.map((response) => response.map(() => 1)), width, 0, "bool");
  const samplingLogprobs = padRight(logprobs, width, 0, "float32");
  return { prompts: repeated, responses, responseMask, samplingLogprobs, finishReasons, endToken };
}
