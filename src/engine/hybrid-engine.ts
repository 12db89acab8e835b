import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { Generation, GenerationStopped } from "./generation.ts";
import type { FinishReason, Generated, GenerationRequest, RequestOptions, TextDecoder } from "./request.ts";
import { Int8Weights } from "./int8-weights.ts";
import { checkModes } from "./self-check.ts";
import { type StreamedToken, TokenQueue } from "./token-queue.ts";

/** What an engine is made with. */
export interface HybridEngineOptions {
  /** Needed for stop strings. */
  tokenizer?: TextDecoder;
  /** Answers that are decoded at the same time; more wait for a free slot. Default 32. */
  numSlots?: number;
  /**
   * Most bytes of the key-value cache; answers that do not fit wait. Default: half of the memory that is available when
   * generation begins. No more is reserved than `numSlots` of the longest request need.
   */
  cacheBytes?: number;
  /**
   * What answers are sampled with: "same", the training weights themselves, or "int8", a copy rounded anew with each switch to generate
   * mode, which reads half the bytes of bfloat16 for a token and samples from a slightly other distribution. Default "same".
   */
  weights?: "same" | "int8";
  /** Whether to compare training and generation on a small batch now; default true. */
  selfCheck?: boolean;
}

/** What `generate` takes. */
export interface GenerateOptions extends Omit<RequestOptions, "maxNewTokens"> {
  /** Most tokens of an answer, one number or one for each prompt; the model's context may end it earlier. Default 128. */
  maxNewTokens?: number | readonly number[];
  /** Answers to each prompt; the prompt is computed once. Default 1. */
  samplesPerPrompt?: number;
  /** Number of the first answer in the stream of draws, so that rollouts of a run never share draws. Default 0. */
  firstRequest?: number;
  /** Asked before each step; true ends generation with `GenerationStopped`. */
  stopRequested?: () => boolean;
}

/** What `stream` takes. */
export interface StreamOptions extends RequestOptions {
  /** The request's number in the stream of draws. Default 0. */
  firstRequest?: number;
  /** Ends this request alone; the iterator then throws the signal's reason. */
  signal?: AbortSignal;
}

/** The answers to a batch of prompts, in the order of the prompts; those to one prompt follow each other. */
export interface GenerateResult {
  /** Prompt and response tokens together. */
  sequences: number[][];
  /** With the end token, where there was one. */
  responses: number[][];
  /** Nats, one a response token, as a training forward at the same temperature would give them. */
  logprobs: number[][];
  finishReasons: FinishReason[];
}

/**
 * One set of weights, two ways to run them: the model trains, and this engine samples from the very same tensors. It enters
 * its generate mode by itself; `enterTrain` leaves it, which frees the key-value cache.
 */
export class HybridEngine {
  readonly model: CausalLM;
  readonly #options: HybridEngineOptions & { numSlots: number };
  /** There in generate mode: the inference view with its cache, and all requests of `generate` and of streams. */
  #generation: Generation | undefined;
  readonly #streams = new Map<Generated, TokenQueue>();
  #int8: Int8Weights | undefined;
  #isPumping = false;
  readonly #switchSeconds = { generate: 0, train: 0 };

  /**
   * @throws {ConfigError} for an option out of range
   * @throws {EngineMismatchError} when the model's two modes disagree
   */
  constructor(model: CausalLM, options: HybridEngineOptions = {}) {
    const { numSlots = 32, cacheBytes, selfCheck = true } = options;
    if (!Number.isInteger(numSlots) || numSlots < 1) {
      throw new ConfigError(`numSlots: expected a whole number of at least 1, got ${numSlots}`);
    }
    if (cacheBytes !== undefined && !(cacheBytes > 0)) throw new ConfigError(`cacheBytes: expected a positive number, got ${cacheBytes}`);
    this.model = model;
    this.#options = { ...options, numSlots };
    if (selfCheck) checkModes(model);
  }

  /** Seconds that the last switch to each mode took; 0 before the first. */
  get switchSeconds(): { readonly generate: number; readonly train: number } { return { ...this.#switchSeconds }; }
  /** Pages of the key-value cache, 32 tokens each: reserved, and in use by answers under way. */
  get cachePages(): { reserved: number; used: number } { return this.#generation?.cachePages ?? { reserved: 0, used: 0 }; }

  /** Makes the inference view. Unless they are int8 the weights are the training ones, uncopied; the cache comes with the first request. */
  enterGenerate(): void {
    this.#enterGenerate();
  }

  /** Drops the inference view and frees its cache. Streams that are under way end with `GenerationStopped`. */
  enterTrain(): void {
    if (!this.#generation) return;
    const start = performance.now();
    this.#drop(new GenerationStopped("the engine left its generate mode before the answer was complete"));
    this.#switchSeconds.train = (performance.now() - start) / 1000;
  }

  /**
   * Frees the key-value cache; the next request reserves it again.
   *
   * @throws {Error} while streams are under way
   */
  releaseCache(): void {
    if (this.#streams.size > 0) throw new Error(`the cache is in use by ${this.#streams.size} streams; leave them first`);
    this.#drop(undefined);
  }

  /**
   * Answers every prompt (token ids). Blocks until all are done; streams under way advance with it.
   *
   * @throws {ConfigError} for options out of range, or a request that the model's context or the cache's budget can never hold
   * @throws {GenerationStopped} when `stopRequested` says so
   */
  generate(prompts: readonly (readonly number[])[], options: GenerateOptions = {}): GenerateResult {
    const { stopRequested, ...rest } = options;
    const generation = this.#enterGenerate();
    const answers = generation.add(requestsOf(prompts, rest));
    const all = answers.flat();
    let numEnded = 0;
    const isFinished = () => {
      while (numEnded < all.length && all[numEnded]?.finishReason !== undefined) numEnded++;
      return numEnded === all.length;
    };
    try {
      while (!isFinished()) {
        if (stopRequested?.()) throw new GenerationStopped("generation was stopped before all answers were complete");
        this.#step(generation);
      }
    } finally {
      for (const answer of all) this.#cancel(generation, answer);
    }
    return {
      sequences: answers.flatMap((samples, i) => samples.map(({ response }) => [...(prompts[i] ?? []), ...response])),
      responses: all.map(({ response }) => [...response]),
      logprobs: all.map(({ logprobs }) => [...logprobs]),
      finishReasons: all.map(({ finishReason }) => finishReason ?? "length"),
    };
  }

  /**
   * Answers one prompt token by token. Several streams share one running batch; between its steps other work of the process
   * gets its turn, and nothing is computed while no stream is being read. Leaving the loop cancels the request.
   *
   * @throws {ConfigError} as `generate` does, from the first read
   */
  async *stream(prompt: readonly number[], { signal, firstRequest = 0, ...options }: StreamOptions = {}): AsyncGenerator<StreamedToken> {
    signal?.throwIfAborted();
    const generation = this.#enterGenerate();
    const [[answer] = []] = generation.add([{ ...options, prompt, id: firstRequest }]);
    if (!answer) throw new Error("internal: a request has no answer");
    const queue = new TokenQueue();
    this.#streams.set(answer, queue);
    const abort = () => {
      this.#leave(generation, answer);
      queue.fail(signal?.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
    try {
      for (let isLast = false; !isLast; ) {
        const next = queue.next();
        if (queue.isWaiting) this.#pump(generation);
        const event = await next;
        isLast = event.finishReason !== undefined;
        yield event;
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#leave(generation, answer);
    }
  }

  #enterGenerate(): Generation {
    if (this.#generation) return this.#generation;
    const start = performance.now();
    const { numSlots, cacheBytes = process.availableMemory() / 2, tokenizer, weights } = this.#options;
    if (weights === "int8") this.#int8 = new Int8Weights(this.model);
    this.#generation = new Generation(this.model, { numSlots, cacheBytes, decoder: tokenizer, product: this.#int8?.product });
    this.#switchSeconds.generate = (performance.now() - start) / 1000;
    return this.#generation;
  }

  /** Advances all requests, and hands the streams their tokens. A failure ends them all: the batch may be half done. */
  #step(generation: Generation): void {
    let advanced: readonly Generated[];
    try {
      advanced = generation.step();
    } catch (error) {
      this.#drop(error);
      throw error;
    }
    for (const answer of advanced) {
      const { response, logprobs, finishReason } = answer;
      this.#streams.get(answer)?.push({ token: response.at(-1) ?? 0, logprob: logprobs.at(-1) ?? 0, finishReason });
    }
  }

  /** Steps, one in a turn of the event loop, for as long as a stream is being waited for. */
  #pump(generation: Generation): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    setImmediate(() => {
      this.#isPumping = false;
      const isAwaited = () => [...this.#streams.values()].some((queue) => queue.isWaiting);
      if (generation !== this.#generation || !isAwaited()) return;
      try {
        this.#step(generation);
      } catch {
        return; // every stream has been told
      }
      if (isAwaited()) this.#pump(generation);
    });
  }

  #leave(generation: Generation, answer: Generated): void {
    this.#streams.delete(answer);
    this.#cancel(generation, answer);
  }

  #cancel(generation: Generation, answer: Generated): void {
    if (generation === this.#generation) generation.cancel(answer); // else it went with its cache
  }

  /** Lets go of view and cache; streams under way end with `error`. */
  #drop(error: unknown): void {
    for (const queue of this.#streams.values()) queue.fail(error);
    this.#streams.clear();
    this.#generation?.dispose();
    this.#generation = undefined;
    this.#int8?.dispose();
    this.#int8 = undefined;
  }
}

/** Sample s of prompt i is request `firstRequest + i * samplesPerPrompt + s`. */
function requestsOf(prompts: readonly (readonly number[])[], options: Omit<GenerateOptions, "stopRequested">): GenerationRequest[] {
  const { maxNewTokens = 128, samplesPerPrompt = 1, firstRequest = 0, ...rest } = options;
  if (!Number.isInteger(samplesPerPrompt) || samplesPerPrompt < 1) {
    throw new ConfigError(`samplesPerPrompt: expected a whole number of at least 1, got ${samplesPerPrompt}`);
  }
  if (typeof maxNewTokens !== "number" && maxNewTokens.length !== prompts.length) {
    throw new ConfigError(`maxNewTokens: expected one number or one for each of ${prompts.length} prompts, got ${maxNewTokens.length}`);
  }
  return prompts.map((prompt, i) => ({
    ...rest, prompt, id: firstRequest + i * samplesPerPrompt, numSamples: samplesPerPrompt,
    maxNewTokens: typeof maxNewTokens === "number" ? maxNewTokens : (maxNewTokens[i] ?? 0),
  }));
}
