import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { packRows } from "../model/packing.ts";
import { linear, linearSmall } from "../nn/functional.ts";
import { noGrad } from "../tensor/autograd.ts";
import { indices } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { KvCache } from "./kv-cache.ts";
import { uniformAt } from "./philox.ts";
import { checkSampling, sample, type SamplingOptions } from "./sampling.ts";

/** What `generate` takes. */
export interface GenerateOptions extends SamplingOptions {
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
  /** Number of the first prompt in the stream of draws, so that rollouts of a run never share draws. Default 0. */
  firstRequest?: number;
  /** Asked before each decode step; true ends generation with `GenerationStopped`. */
  stopRequested?: () => boolean;
}

/** Generation was asked to stop before all answers were complete. */
export class GenerationStopped extends Error {
  override readonly name = "GenerationStopped";
}

/** Why an answer ended: its end token, a stop string, or the limit of tokens. */
export type FinishReason = "eos" | "stop" | "length";

/** One request at work; the end token is part of its response. */
export interface Generated {
  response: number[];
  /** Nats, one a response token; see `Sampled.logprobs`. */
  logprobs: number[];
  finishReason: FinishReason | undefined;
}

interface Request extends Generated {
  index: number;
  id: number;
  prompt: readonly number[];
}

/** Turns token ids into text, for stop strings. */
export interface TextDecoder {
  decode(ids: readonly number[]): string;
}

/** Tokens of prompts that one prefill takes at once: bounds its activations. */
const PREFILL_TOKENS = 4096;

/**
 * Requests advanced one decode step at a time, so that the same loop serves a rollout (run to the end) and a chat
 * (yield between steps). A finished sequence's slot takes the next prompt.
 */
export class Generation {
  readonly results: readonly Generated[];
  readonly #model: CausalLM;
  readonly #options: Required<Omit<GenerateOptions, "eosTokenId" | "firstRequest" | "stopRequested">> & { endTokens: readonly number[] };
  readonly #decoder: TextDecoder | undefined;
  readonly #cache: KvCache;
  readonly #waiting: Request[];
  /** The request in slot i. */
  readonly #running: Request[] = [];

  /** @throws {ConfigError} for options out of range or a prompt that does not fit the context */
  constructor(model: CausalLM, prompts: readonly (readonly number[])[], options: GenerateOptions, numSlots: number, decoder?: TextDecoder) {
    const { maxNewTokens = 128, minNewTokens = 0, stop = [], seed = 0, firstRequest = 0 } = options;
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
    this.#model = model;
    this.#decoder = decoder;
    const endTokens = endTokensOf(model, options.eosTokenId);
    this.#options = { ...checkSampling(options), maxNewTokens, minNewTokens, stop, seed, endTokens };
    this.#waiting = prompts.map((prompt, index) => ({
      index, id: firstRequest + index, prompt, response: [], logprobs: [], finishReason: undefined,
    }));
    this.results = [...this.#waiting];
    const capacity = Math.min(Math.max(0, ...prompts.map((prompt) => prompt.length)) + maxNewTokens, maxPositions);
    this.#cache = new KvCache(model.spec, model.dtype, Math.min(numSlots, Math.max(1, prompts.length)), capacity);
  }

  get isFinished(): boolean { return this.#waiting.length === 0 && this.#running.length === 0; }

  /** Fills free slots and draws one token for every running request; returns the indices of the requests that got one. */
  step(): number[] {
    return noGrad(() => {
      const advanced = this.#admit();
      if (this.#running.length > 0 && advanced.length === 0) {
        const requests = [...this.#running];
        tidy(() => this.#record(requests, this.#decode(requests)));
        advanced.push(...requests.map((request) => request.index));
      }
      this.#release();
      return advanced;
    });
  }

  /** Ends a request early; its slot is free at the next step. */
  cancel(index: number): void {
    const waiting = this.#waiting.findIndex((request) => request.index === index);
    if (waiting >= 0) this.#waiting.splice(waiting, 1);
    const request = this.results[index];
    if (request && request.finishReason === undefined) request.finishReason = "stop";
    this.#release();
  }

  /** Prefills as many waiting prompts as slots and memory allow; each gets its first token. */
  #admit(): number[] {
    const admitted: Request[] = [];
    let tokens = 0;
    while (this.#running.length < this.#cache.numSlots) {
      const next = this.#waiting[0];
      if (!next || (admitted.length > 0 && tokens + next.prompt.length > PREFILL_TOKENS)) break;
      this.#waiting.shift();
      tokens += next.prompt.length;
      admitted.push(next);
      this.#running.push(next);
    }
    if (admitted.length > 0) tidy(() => this.#record(admitted, this.#prefill(admitted)));
    return admitted.map((request) => request.index);
  }

  /** [requests, vocab] logits after each prompt. */
  #prefill(requests: readonly Request[]): Tensor {
    const rows = packRows(requests.map((request) => request.prompt));
    const slots = requests.map((request) => this.#running.indexOf(request));
    const hidden = this.#model.hidden(rows, { attention: this.#cache.prefill(rows.offsets, slots) });
    return linear(hidden.indexSelect(0, indices(rows.offsets.slice(1).map((end) => end - 1))), this.#model.headWeight);
  }

  /** [requests, vocab] logits after each request's last token. */
  #decode(requests: readonly Request[]): Tensor {
    const lengths = requests.map(({ prompt, response }) => prompt.length + response.length - 1); // the last token is not in the cache yet
    const rows = { tokens: indices(requests.map(({ response }) => response.at(-1) ?? 0)), positions: indices(lengths), offsets: [] };
    const hidden = this.#model.hidden(rows, { attention: this.#cache.decode(lengths), product: linearSmall });
    return linearSmall(hidden, this.#model.headWeight);
  }

  #record(requests: readonly Request[], logits: Tensor): void {
    const { seed, minNewTokens, endTokens } = this.#options;
    const uniforms = requests.map(({ id, prompt, response }) => uniformAt(seed, id, prompt.length + response.length));
    const excluded = requests.map(({ response }) => (response.length < minNewTokens ? endTokens : []));
    const drawn = sample(logits, this.#options, uniforms, excluded);
    for (const [i, request] of requests.entries()) {
      request.response.push(drawn.tokens[i] ?? 0);
      request.logprobs.push(drawn.logprobs[i] ?? 0);
      request.finishReason = this.#reasonToEnd(request);
    }
  }

  #reasonToEnd({ prompt, response }: Request): FinishReason | undefined {
    const { endTokens, maxNewTokens, stop } = this.#options;
    if (endTokens.includes(response.at(-1) ?? -1)) return "eos";
    if (stop.length > 0 && this.#decoder) {
      const text = this.#decoder.decode(response);
      if (stop.some((end) => text.includes(end))) return "stop";
    }
    if (response.length >= maxNewTokens || prompt.length + response.length >= this.#model.spec.maxPositions) return "length";
    return undefined;
  }

  /** Gives the slots of finished requests back; the last running one moves into each gap. */
  #release(): void {
    for (let slot = this.#running.length - 1; slot >= 0; slot--) {
      if (this.#running[slot]?.finishReason === undefined) continue;
      const last = this.#running.pop();
      if (!last || slot === this.#running.length) continue;
      this.#running[slot] = last;
      this.#cache.move(this.#running.length, slot, last.prompt.length + last.response.length - 1);
    }
  }
}

function endTokensOf(model: CausalLM, asked: GenerateOptions["eosTokenId"]): readonly number[] {
  const ofModel = model.generationConfig.eos_token_id ?? model.config.eos_token_id ?? null;
  const value = asked !== undefined ? asked : (ofModel as number | readonly number[] | null);
  if (value === null) return [];
  return typeof value === "number" ? [value] : value;
}
