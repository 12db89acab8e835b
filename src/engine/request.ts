import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { checkSampling, type SamplingOptions } from "./sampling.ts";

/** How one request is answered. */
export interface RequestOptions extends SamplingOptions {
  /** Most tokens of an answer; the model's context may end it earlier. Default 128. */
  maxNewTokens?: number;
  /** The end token cannot be drawn before that many tokens. Default 0. */
  minNewTokens?: number;
  /** Ends an answer when its text contains one of them; needs an engine with a tokenizer. */
  stop?: readonly string[];
  /** Of the draws; default 0. */
  seed?: number;
  /** Ends an answer; null never does. Default: the generation configuration's. */
  eosTokenId?: number | readonly number[] | null;
}

/** A prompt to answer. */
export interface GenerationRequest extends RequestOptions {
  prompt: readonly number[];
  /** Its number in the stream of draws: two requests with one seed and number draw the same. Sample s draws as number `id + s`. */
  id: number;
  /** Answers to this prompt, which is prefilled once. Default 1. */
  numSamples?: number;
}

/** Why an answer ended: its end token, a stop string (or cancellation), or the limit of tokens. */
export type FinishReason = "eos" | "stop" | "length";

/** An answer as far as it is; the end token is part of it. */
export interface Generated {
  readonly response: readonly number[];
  /** Nats, one a response token; see `Sampled.logprobs`. */
  readonly logprobs: readonly number[];
  /** Undefined until the answer has ended. */
  readonly finishReason: FinishReason | undefined;
}

/** Turns token ids into text, for stop strings. */
export interface TextDecoder {
  decode(ids: readonly number[]): string;
}

/** A request's options, checked and with their defaults. */
export interface RequestSettings {
  readonly sampling: Required<SamplingOptions>;
  readonly maxNewTokens: number;
  readonly minNewTokens: number;
  readonly stop: readonly string[];
  readonly seed: number;
  readonly endTokens: readonly number[];
}

/** @throws {ConfigError} for options out of range, or stop strings without a decoder */
export function checkRequestOptions(model: CausalLM, options: RequestOptions, decoder: TextDecoder | undefined): RequestSettings {
  const { maxNewTokens = 128, minNewTokens = 0, stop = [], seed = 0 } = options;
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
    throw new ConfigError(`maxNewTokens: expected a whole number of at least 1, got ${maxNewTokens}`);
  }
  if (!Number.isInteger(minNewTokens) || minNewTokens < 0 || minNewTokens > maxNewTokens) {
    throw new ConfigError(`minNewTokens: expected a whole number in [0, maxNewTokens = ${maxNewTokens}], got ${minNewTokens}`);
  }
  if (stop.length > 0 && !decoder) {
    throw new ConfigError(
      "stop: stop strings need the text of an answer; make the engine with a tokenizer: new HybridEngine(model, { tokenizer })",
    );
  }
  return { sampling: checkSampling(options), maxNewTokens, minNewTokens, stop, seed, endTokens: endTokensOf(model, options.eosTokenId) };
}

/**
 * @throws {ConfigError} for a prompt that is empty or leaves no room in the context
 * @throws {RangeError} for a token outside of the vocabulary
 */
export function checkPrompts(model: CausalLM, prompts: readonly (readonly number[])[]): void {
  const { maxPositions } = model.spec;
  for (const [i, prompt] of prompts.entries()) {
    if (prompt.length === 0) {
      throw new ConfigError(`prompt ${i} is empty; give every prompt at least one token, such as the model's start token`);
    }
    if (prompt.length >= maxPositions) {
      throw new ConfigError(
        `prompt ${i} has ${prompt.length} tokens, the model's context is ${maxPositions} and must hold an answer too; shorten the prompt`,
      );
    }
  }
  model.checkLengths(prompts);
}

function endTokensOf(model: CausalLM, asked: RequestOptions["eosTokenId"]): readonly number[] {
  const ofModel = model.generationConfig.eos_token_id ?? model.config.eos_token_id ?? null;
  const value = asked !== undefined ? asked : (ofModel as number | readonly number[] | null);
  if (value === null) return [];
  return typeof value === "number" ? [value] : value;
}
