import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { type FinishReason, type GenerateOptions, Generation, GenerationStopped, type TextDecoder } from "./generation.ts";

/** What an engine is made with. */
export interface HybridEngineOptions {
  /** Needed for stop strings. */
  tokenizer?: TextDecoder;
  /** Sequences that are decoded at the same time; more prompts wait for a free slot. Default 32. */
  numSlots?: number;
}

/** The answers to a batch of prompts, in the order of the prompts. */
export interface GenerateResult {
  /** Prompt and response tokens together. */
  sequences: number[][];
  /** With the end token, where there was one. */
  responses: number[][];
  /** Nats, one a response token, as a training forward at the same temperature would give them. */
  logprobs: number[][];
  finishReasons: FinishReason[];
}

/** One event of a stream: a token, and on the last one why the answer ended. */
export interface StreamedToken {
  token: number;
  logprob: number;
  finishReason: FinishReason | undefined;
}

/** One set of weights, two ways to run them: the model trains, and this engine samples from the very same tensors. */
export class HybridEngine {
  readonly model: CausalLM;
  readonly #tokenizer: TextDecoder | undefined;
  readonly #numSlots: number;

  constructor(model: CausalLM, { tokenizer, numSlots = 32 }: HybridEngineOptions = {}) {
    if (!Number.isInteger(numSlots) || numSlots < 1) {
      throw new ConfigError(`numSlots: expected a whole number of at least 1, got ${numSlots}`);
    }
    this.model = model;
    this.#tokenizer = tokenizer;
    this.#numSlots = numSlots;
  }

  /**
   * Answers every prompt (token ids). Blocks until all are done.
   *
   * @throws {ConfigError} for options out of range or a prompt that does not fit the model's context
   * @throws {GenerationStopped} when `stopRequested` says so
   */
  generate(prompts: readonly (readonly number[])[], options: GenerateOptions = {}): GenerateResult {
    const generation = new Generation(this.model, prompts, options, this.#numSlots, this.#tokenizer);
    while (!generation.isFinished) {
      if (options.stopRequested?.()) throw new GenerationStopped("generation was stopped before all answers were complete");
      generation.step();
    }
    return {
      sequences: generation.results.map(({ response }, i) => [...(prompts[i] ?? []), ...response]),
      responses: generation.results.map(({ response }) => response),
      logprobs: generation.results.map(({ logprobs }) => logprobs),
      finishReasons: generation.results.map(({ finishReason }) => finishReason ?? "length"),
    };
  }

  /** Answers one prompt token by token; between tokens other work of the process gets its turn. Leaving the loop cancels. */
  async *stream(prompt: readonly number[], options: Omit<GenerateOptions, "stopRequested"> = {}): AsyncGenerator<StreamedToken> {
    const generation = new Generation(this.model, [prompt], options, 1, this.#tokenizer);
    const [request] = generation.results;
    while (request && !generation.isFinished) {
      generation.step();
      yield { token: request.response.at(-1) ?? 0, logprob: request.logprobs.at(-1) ?? 0, finishReason: request.finishReason };
      await new Promise(setImmediate);
    }
  }
}
