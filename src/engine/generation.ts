import { ConfigError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import type { LayerProduct } from "../nn/layer-product.ts";
import { noGrad } from "../tensor/autograd.ts";
import { cat, indices } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { trimHeap } from "../tensor/system.ts";
import { tidy, untracked } from "../tensor/tidy.ts";
import { InferenceView } from "./inference-view.ts";
import { KvCache, PAGE_TOKENS, pageBytes, pagesFor } from "./kv-cache.ts";
import { uniformAt } from "./philox.ts";
import {
  checkPrompts, checkRequestOptions, type FinishReason, type Generated, type GenerationRequest, type RequestSettings, type TextDecoder,
} from "./request.ts";
import { sample } from "./sampling.ts";

/** Generation was asked to stop before all answers were complete. */
export class GenerationStopped extends Error {
  override readonly name = "GenerationStopped";
}

/** The bounds of a running batch. */
export interface GenerationLimits {
  /** Answers that are decoded at the same time; more wait. */
  numSlots: number;
  /** Budget of the key-value cache. */
  cacheBytes: number;
  /** Needed for stop strings. */
  decoder?: TextDecoder | undefined;
  /** What multiplies; left out: the model's own weights as they are. */
  product?: LayerProduct | undefined;
}

/** Tokens of prompts that one prefill takes at once: bounds its activations. One longer prompt alone is fine. */
const PREFILL_TOKENS = 512;

/** Decode steps after which the heap is trimmed: their results, large beside small, leave holes that are never filled. */
const TRIMMED_STEPS = 8;

/** One prompt and the answers to it. */
interface Group {
  readonly prompt: readonly number[];
  readonly settings: RequestSettings;
  /** Pages of the prompt and the longest answer together. */
  readonly numPages: number;
  /** Answers that have no token yet, in order. */
  readonly waiting: Answer[];
  /**
   * From prefill until the last answer has started: the prompt's pages and the logits after it, [1, vocab]. Only the group
   * at the head of the queue can be in between, so keeping them costs one prompt; prefilling again would cost its time.
   */
  pages: readonly number[];
  logits: Tensor | undefined;
}

/** What one look at the queue has started. */
interface Admission {
  readonly started: Answer[];
  /** Prompts to prefill, with their pages. */
  readonly fresh: { group: Group; pages: readonly number[] }[];
  /** The group at the head of the queue, if it was prefilled before. */
  readonly resumed: Group | undefined;
  /** Pages that the first answers of a prompt get a copy of. */
  readonly copies: { from: number[]; to: number[] };
}

interface Answer extends Generated {
  readonly id: number;
  readonly group: Group;
  readonly response: number[];
  readonly logprobs: number[];
  finishReason: FinishReason | undefined;
  /** Of the prompt and the whole answer, while it runs. */
  pages: readonly number[];
}

/**
 * Continuous batching: requests may be added at any time, each with its own options; the batch advances one token at a
 * time, so that the same loop serves a rollout (run to the end) and a chat (yield between steps). Requests enter in order
 * as soon as a slot is free and the cache has the pages of prompt and longest answer, so an answer that runs never lacks
 * memory. Answers to one prompt share its full pages.
 */
export class Generation {
  readonly #model: CausalLM;
  readonly #limits: GenerationLimits;
  readonly #cache: KvCache;
  readonly #view: InferenceView;
  /** Pages that the budget allows. */
  readonly #maxPages: number;
  readonly #waiting: Group[] = [];
  /** The answer in row i of a step. */
  #running: Answer[] = [];
  /** Answers waiting or running, and the most pages that one of them may take. */
  #numLive = 0;
  #mostPages = 0;
  #numDecoded = 0;
  /** Of the running answers; undefined after they have changed. */
  #pageTable: Tensor | undefined;

  constructor(model: CausalLM, limits: GenerationLimits) {
    this.#model = model;
    this.#limits = limits;
    this.#cache = new KvCache(model.spec, model.dtype);
    this.#view = new InferenceView(model, this.#cache, limits.product);
    this.#maxPages = Math.floor(limits.cacheBytes / pageBytes(model.spec, model.dtype));
  }

  get isFinished(): boolean { return this.#numLive === 0; }
  /** Pages of the cache: reserved, and in use. */
  get cachePages(): { reserved: number; used: number } {
    return { reserved: this.#cache.pool.numPages, used: this.#cache.pool.numUsed };
  }

  /**
   * Takes requests in; all or, when it throws, none of them.
   *
   * @returns the answers to each prompt; `step` fills them
   * @throws {ConfigError} for options out of range, or a request that the context or the cache's budget can never hold
   */
  add(requests: readonly GenerationRequest[]): Generated[][] {
    checkPrompts(this.#model, requests.map(({ prompt }) => prompt));
    const groups = requests.map((request, index) => this.#open(request, index));
    let longest = 0;
    for (const group of groups) {
      longest = Math.max(longest, group.numPages * PAGE_TOKENS);
      this.#mostPages = Math.max(this.#mostPages, numPagesNeeded(group));
      this.#numLive += group.waiting.length;
      this.#waiting.push(group);
    }
    untracked(() => this.#reserve(Math.min(longest, this.#model.spec.maxPositions)));
    return groups.map(({ waiting }) => [...waiting]);
  }

  /** Starts waiting answers where there is room, else draws one token for every running one; returns the answers that got one. */
  step(): readonly Generated[] {
    // The cache and what waits for the next step outlive a `tidy` around the call.
    return untracked(() => noGrad(() => {
      const started = this.#admit();
      if (started.length === 0 && this.#running.length === 0 && this.#waiting.length > 0) {
        throw new Error(`internal: a request for ${this.#waiting[0]?.numPages} pages waits beside ${this.#cache.pool.numFree} free ones`);
      }
      const advanced = started.length > 0 ? started : this.#decode();
      this.#release();
      return advanced;
    }));
  }

  /** Ends an answer early; its slot and its pages are free at once. */
  cancel(answer: Generated): void {
    const own = answer as Answer;
    if (own.finishReason !== undefined) return;
    own.finishReason = "stop";
    const { group } = own;
    const place = group.waiting.indexOf(own);
    if (place < 0) { // it runs
      this.#release();
      return;
    }
    group.waiting.splice(place, 1);
    this.#ended(1);
    if (group.waiting.length > 0) return;
    this.#cache.pool.release(group.pages);
    group.logits?.dispose();
    this.#waiting.splice(this.#waiting.indexOf(group), 1);
  }

  /** Frees the cache now; nothing can be generated any more. */
  dispose(): void {
    for (const group of this.#waiting) group.logits?.dispose();
    this.#dropPageTable();
    this.#cache.dispose();
  }

  #open({ prompt, id, numSamples = 1, ...options }: GenerationRequest, index: number): Group {
    const settings = checkRequestOptions(this.#model, options, this.#limits.decoder);
    const most = Math.min(prompt.length + settings.maxNewTokens, this.#model.spec.maxPositions);
    const group: Group = {
      prompt, settings, waiting: [], pages: [], logits: undefined,
      numPages: pagesFor(most - 1), // an answer's last token never enters the cache
    };
    for (let s = 0; s < numSamples; s++) {
      group.waiting.push({ id: id + s, group, response: [], logprobs: [], finishReason: undefined, pages: [] });
    }
    if (numPagesNeeded(group) > this.#maxPages) {
      const needed = numPagesNeeded(group) * pageBytes(this.#model.spec, this.#model.dtype);
      throw new ConfigError(
        `prompt ${index}: its ${prompt.length} tokens and an answer of up to ${most - prompt.length} need ${inBytes(needed)} of the ` +
          `key-value cache, whose budget is ${inBytes(this.#limits.cacheBytes)}; ` +
          "raise cacheBytes, lower maxNewTokens or shorten the prompt",
      );
    }
    return group;
  }

  /** Pages for as many of the live answers as there are slots, as far as the budget goes. */
  #reserve(numPositions: number): void {
    const { pool } = this.#cache;
    const wanted = Math.min(this.#maxPages, Math.min(this.#limits.numSlots, this.#numLive) * this.#mostPages);
    // In use it grows by doubling, since what is in use is copied.
    const grown = pool.numUsed > 0 && wanted > pool.numPages ? Math.min(this.#maxPages, Math.max(wanted, 2 * pool.numPages)) : wanted;
    this.#cache.reserve(grown, numPositions);
  }

  /** Starts as many waiting answers as slots and pages allow, and draws the first token of each. */
  #admit(): Answer[] {
    const { pool } = this.#cache;
    const [head] = this.#waiting;
    const admission: Admission = { started: [], fresh: [], resumed: head?.logits ? head : undefined, copies: { from: [], to: [] } };
    let tokens = 0;
    for (let group = head; group && this.#hasSlot; group = this.#waiting[0]) {
      if (group !== admission.resumed) {
        const isFull = admission.fresh.length > 0 && tokens + group.prompt.length > PREFILL_TOKENS;
        if (isFull || pool.numFree < pagesFor(group.prompt.length) + numPagesToStart(group)) break;
        group.pages = pool.allocate(pagesFor(group.prompt.length));
        tokens += group.prompt.length;
        admission.fresh.push({ group, pages: group.pages });
      }
      while (group.waiting.length > 0 && this.#hasSlot && pool.numFree >= numPagesToStart(group)) {
        admission.started.push(this.#start(group, admission));
      }
      if (group.waiting.length > 0) break;
      this.#waiting.shift();
    }
    if (admission.started.length > 0) this.#drawFirst(admission);
    return admission.started;
  }

  get #hasSlot(): boolean { return this.#running.length < this.#limits.numSlots; }

  /** Gives a group's next answer its pages. The last one takes the prompt's over; the others share those that are full. */
  #start(group: Group, { copies }: Admission): Answer {
    const { pool } = this.#cache;
    const answer = group.waiting.shift();
    if (!answer) throw new Error("internal: no answer of this group waits");
    const taken = group.waiting.length === 0 ? group.pages : group.pages.slice(0, numFullPages(group));
    const own = pool.allocate(group.numPages - taken.length);
    answer.pages = [...taken, ...own];
    if (group.waiting.length === 0) {
      group.pages = [];
    } else {
      pool.share(taken);
      const partial = group.pages[taken.length];
      if (partial !== undefined) {
        copies.from.push(partial);
        copies.to.push(own[0] ?? -1);
      }
    }
    this.#running.push(answer);
    this.#dropPageTable();
    return answer;
  }

  /** Prefills, and draws the first token of every started answer from the logits after its prompt. */
  #drawFirst({ started, fresh, resumed, copies }: Admission): void {
    const [head] = this.#waiting;
    const unfinished = head !== resumed && head && head.pages.length > 0 ? head : undefined;
    const groups = [...(resumed ? [resumed] : []), ...fresh.map(({ group }) => group)];
    const kept = tidy(() => {
      const parts = resumed?.logits ? [resumed.logits] : [];
      if (fresh.length > 0) {
        parts.push(this.#view.prefill(fresh.map(({ group }) => group.prompt), fresh.map(({ pages }) => pages)));
        trimHeap();
      }
      this.#cache.copyPages(copies.from, copies.to);
      const logits = cat(parts);
      this.#record(started, logits.indexSelect(0, indices(started.map(({ group }) => groups.indexOf(group)))));
      return unfinished ? logits.slice(0, groups.indexOf(unfinished)).clone() : undefined; // it is the last of the groups
    });
    if (unfinished) unfinished.logits = kept;
    if (resumed && resumed !== head) {
      resumed.logits?.dispose();
      resumed.logits = undefined;
    }
  }

  #decode(): Answer[] {
    const answers = this.#running;
    if (answers.length === 0) return [];
    this.#pageTable ??= KvCache.pageTable(answers.map(({ pages }) => pages));
    const pageTable = this.#pageTable;
    const last = answers.map(({ response }) => response.at(-1) ?? 0); // not in the cache yet
    const positions = answers.map(({ group, response }) => group.prompt.length + response.length - 1);
    tidy(() => this.#record(answers, this.#view.decode(last, positions, pageTable)));
    this.#numDecoded++;
    if (this.#numDecoded % TRIMMED_STEPS === 0) trimHeap();
    return answers;
  }

  #record(answers: readonly Answer[], logits: Tensor): void {
    const settings = answers.map(({ group }) => group.settings);
    const uniforms = answers.map(({ id, group, response }) => uniformAt(group.settings.seed, id, group.prompt.length + response.length));
    const excluded = answers.map(({ response }, i) => {
      const { minNewTokens = 0, endTokens = [] } = settings[i] ?? {};
      return response.length < minNewTokens ? endTokens : [];
    });
    const drawn = sample(logits, settings.map(({ sampling }) => sampling), uniforms, excluded);
    for (const [i, answer] of answers.entries()) {
      answer.response.push(drawn.tokens[i] ?? 0);
      answer.logprobs.push(drawn.logprobs[i] ?? 0);
      answer.finishReason = this.#reasonToEnd(answer);
    }
  }

  #reasonToEnd({ group: { prompt, settings }, response }: Answer): FinishReason | undefined {
    const { endTokens, maxNewTokens, stop } = settings;
    const { decoder } = this.#limits;
    if (endTokens.includes(response.at(-1) ?? -1)) return "eos";
    if (stop.length > 0 && decoder) {
      const text = decoder.decode(response);
      if (stop.some((end) => text.includes(end))) return "stop";
    }
    if (response.length >= maxNewTokens || prompt.length + response.length >= this.#model.spec.maxPositions) return "length";
    return undefined;
  }

  /** Gives slots and pages of ended answers back. */
  #release(): void {
    const ended = this.#running.filter(({ finishReason }) => finishReason !== undefined);
    if (ended.length === 0) return;
    for (const answer of ended) this.#cache.pool.release(answer.pages);
    this.#running = this.#running.filter(({ finishReason }) => finishReason === undefined);
    this.#dropPageTable();
    this.#ended(ended.length);
  }

  #ended(count: number): void {
    this.#numLive -= count;
    if (this.#numLive === 0) this.#mostPages = 0;
  }

  #dropPageTable(): void {
    this.#pageTable?.dispose();
    this.#pageTable = undefined;
  }
}

function inBytes(bytes: number): string {
  return bytes < 2 ** 20 ? `${(bytes / 2 ** 10).toFixed(1)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

function numFullPages({ prompt }: Group): number {
  return Math.floor(prompt.length / PAGE_TOKENS);
}

/** Pages that the next answer of a prefilled group still needs. */
function numPagesToStart(group: Group): number {
  return group.numPages - (group.waiting.length === 1 ? pagesFor(group.prompt.length) : numFullPages(group));
}

/** Pages without which a group can never start: several answers copy the page that their prompt does not fill. */
function numPagesNeeded(group: Group): number {
  return group.numPages + (group.waiting.length > 1 ? pagesFor(group.prompt.length) - numFullPages(group) : 0);
}
