import { describe, expect, test } from "vitest";
import { type GenerateOptions, HybridEngine } from "../../src/engine/hybrid-engine.ts";
import type { TextDecoder } from "../../src/engine/request.ts";
import { ConfigError } from "../../src/errors.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { assertClose } from "../assert-close.ts";
import { type TinyModelOptions, writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const load = (options: TinyModelOptions) => CausalLM.load(writeTinyModel(temporaryFolder(), options), { dtype: "float32" });
const loadLlama = (config: Record<string, unknown> = {}) => load({ family: "llama", config });

const prompts = [[5, 6, 7, 8, 9, 10, 11], [12], [13, 14, 15], [16, 17, 18, 19, 20], [21, 22]];
const longest = { maxNewTokens: 12, eosTokenId: null };

/** Natural log of the softmax of the logits after the last token, from a whole forward without cache. */
function uncachedLogprobs(model: CausalLM, sequence: readonly number[], temperature = 1): number[] {
  const grid = noGrad(() => model.forward([sequence])).toArray() as number[][][];
  const logits = (grid[0]?.at(-1) ?? []).map((x) => x / temperature);
  const largest = Math.max(...logits);
  const normaliser = largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
  return logits.map((x) => x - normaliser);
}

/** Greedy decoding by a whole forward a token; `forbidden` tokens are never taken while the answer is shorter than `until`. */
function uncachedGreedy(model: CausalLM, prompt: readonly number[], count: number, forbidden: readonly number[] = [], until = 0): number[] {
  const response: number[] = [];
  while (response.length < count) {
    const logprobs = uncachedLogprobs(model, [...prompt, ...response]);
    const allowed = logprobs.map((x, token) => (response.length < until && forbidden.includes(token) ? -Infinity : x));
    response.push(allowed.indexOf(Math.max(...allowed)));
  }
  return response;
}

describe.each<[string, TinyModelOptions]>([
  ["llama with shared key heads", { family: "llama", config: { num_key_value_heads: 1 } }],
  ["llama with a tied head and wide heads", { family: "llama", config: { tie_word_embeddings: true, head_dim: 12, attention_bias: true } }],
  ["opt", { family: "opt" }],
  [
    "opt with norms after the sum and narrow embeddings",
    { family: "opt", config: { do_layer_norm_before: false, word_embed_proj_dim: 16 } },
  ],
])("%s", (_name, options) => {
  test("greedy decoding through the cache takes the tokens and log-probabilities of whole forwards", async () => {
    const model = await load(options);
    const { responses, logprobs } = new HybridEngine(model).generate(prompts, { ...longest, temperature: 0 });
    for (const [i, prompt] of prompts.entries()) {
      expect(responses[i]).toEqual(uncachedGreedy(model, prompt, longest.maxNewTokens));
      const expected = (responses[i] ?? []).map(
        (token, t) => uncachedLogprobs(model, [...prompt, ...(responses[i] ?? []).slice(0, t)])[token] ?? Number.NaN,
      );
      assertClose(logprobs[i] ?? [], expected, { atol: 1e-5 });
    }
  });

  test.each([1, 2, 3, 5])("sampled tokens are the same with %i slots for five prompts as alone", async (numSlots) => {
    const model = await load(options);
    const settings: GenerateOptions = { ...longest, seed: 3, topP: 0.95 };
    const together = new HybridEngine(model, { numSlots }).generate(prompts, settings);
    for (const [i, prompt] of prompts.entries()) {
      const alone = new HybridEngine(model).generate([prompt], { ...settings, firstRequest: i });
      expect(together.responses[i]).toEqual(alone.responses[0]);
      assertClose(together.logprobs[i] ?? [], alone.logprobs[0] ?? [], { atol: 1e-5 });
    }
  });

  test.each<GenerateOptions>([
    { temperature: 0 },
    { temperature: 0.7 },
    { temperature: 1 },
    { temperature: 1.3 },
    { temperature: 0.7, topK: 5 },
    { temperature: 1.3, topP: 0.8 },
    { topK: 7, topP: 0.6, minNewTokens: 6, eosTokenId: [30, 31] },
  ])("log-probabilities under %o are those of the training forward", async (sampling) => {
    const model = await load(options);
    const { sequences, logprobs } = new HybridEngine(model).generate(prompts, { ...longest, seed: 1, ...sampling });
    const counts = sequences.map((sequence, i) => sequence.map((_, t) => t >= (prompts[i]?.length ?? 0)));
    const recomputed = noGrad(() => model.tokenLogprobs(sequences, { counts, temperature: sampling.temperature || 1 }).logprobs);
    assertClose(logprobs.flat(), recomputed, { rtol: 0, atol: 1e-5 });
  });
});

test.each(["llama", "opt"] as const)("a bfloat16 %s samples with log-probabilities near those of its training forward", async (family) => {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family }), { dtype: "bfloat16" });
  const { sequences, logprobs } = new HybridEngine(model).generate(prompts, { ...longest, seed: 1 });
  const counts = sequences.map((sequence, i) => sequence.map((_, t) => t >= (prompts[i]?.length ?? 0)));
  const recomputed = noGrad(() => model.tokenLogprobs(sequences, { counts }).logprobs).numbers();
  const differences = logprobs.flat().map((x, i) => Math.abs(x - (recomputed[i] ?? Number.NaN)));
  // Two orders of rounding to 8 bits; a wrong mask or position differs by whole nats.
  expect(differences.reduce((a, b) => a + b, 0) / differences.length).toBeLessThan(0.05);
});

describe("draws", () => {
  test("depend on the request's number and not on its place: parts of a batch draw what the whole draws, in any order", async () => {
    const engine = new HybridEngine(await loadLlama());
    const whole = engine.generate(prompts, { ...longest, seed: 11 }).responses;
    const last = engine.generate(prompts.slice(3), { ...longest, seed: 11, firstRequest: 3 }).responses;
    const first = engine.generate(prompts.slice(0, 3), { ...longest, seed: 11 }).responses;
    expect([...first, ...last]).toEqual(whole);
  });

  test("of one prompt asked twice differ, and the greedy answers to reordered prompts are reordered", async () => {
    const engine = new HybridEngine(await loadLlama());
    const [a, b] = engine.generate(
      [
        [5, 6],
        [5, 6],
      ],
      longest,
    ).responses;
    expect(a).not.toEqual(b);
    const greedy = engine.generate(prompts, { ...longest, temperature: 0 }).responses;
    expect(engine.generate(prompts.toReversed(), { ...longest, temperature: 0 }).responses).toEqual(greedy.toReversed());
  });

  test("repeat under the same seed and differ under another, also beyond 32 bits", async () => {
    const engine = new HybridEngine(await loadLlama());
    const answer = (seed: number) => engine.generate([[5, 6, 7]], { ...longest, seed }).responses[0];
    expect(answer(4)).toEqual(answer(4));
    expect(answer(4)).not.toEqual(answer(5));
    expect(answer(4)).not.toEqual(answer(4 + 2 ** 32));
  });
});

describe("an answer ends", () => {
  test("at its end token, which belongs to it", async () => {
    const model = await loadLlama();
    const [t0 = 0, t1 = 0, t2 = 0] = uncachedGreedy(model, [5, 6, 7], 3);
    const { responses, logprobs, sequences, finishReasons } = new HybridEngine(model).generate([[5, 6, 7]], {
      temperature: 0,
      maxNewTokens: 9,
      eosTokenId: t2,
    });
    expect(responses).toEqual([[t0, t1, t2]]);
    expect(logprobs[0]).toHaveLength(3);
    expect(sequences).toEqual([[5, 6, 7, t0, t1, t2]]);
    expect(finishReasons).toEqual(["eos"]);
  });

  test("at any end token of a list, at the generation configuration's, else at the configuration's; never with null", async () => {
    const folder = writeTinyModel(temporaryFolder(), { family: "llama" });
    const plain = await CausalLM.load(folder, { dtype: "float32" });
    const [t0 = 0, t1 = 0, t2 = 0] = uncachedGreedy(plain, [5, 6, 7], 3);
    expect(new Set([t0, t1, t2]).size).toBe(3);
    const lengthWith = (model: CausalLM, options: GenerateOptions) =>
      new HybridEngine(model).generate([[5, 6, 7]], { temperature: 0, maxNewTokens: 5, ...options }).responses[0]?.length;
    expect(lengthWith(plain, { eosTokenId: [t2, t1] })).toBe(2);
    plain.generationConfig = { eos_token_id: [t2] };
    expect(lengthWith(plain, {})).toBe(3);
    expect(lengthWith(plain, { eosTokenId: null })).toBe(5);
    plain.generationConfig = {};
    plain.config = { ...plain.config, eos_token_id: t0 };
    expect(lengthWith(plain, {})).toBe(1);
  });

  test("not before minNewTokens: no end token is taken until then", async () => {
    const model = await loadLlama();
    const ends = uncachedGreedy(model, [5, 6, 7], 2);
    const { responses } = new HybridEngine(model).generate([[5, 6, 7], [8]], {
      temperature: 0,
      maxNewTokens: 8,
      minNewTokens: 4,
      eosTokenId: ends,
    });
    for (const [i, prompt] of [[5, 6, 7], [8]].entries()) {
      const expected = uncachedGreedy(model, prompt, 8, ends, 4);
      const end = expected.findIndex((token, t) => t >= 4 && ends.includes(token));
      expect(responses[i]).toEqual(end < 0 ? expected : expected.slice(0, end + 1));
      expect(responses[i]?.slice(0, 4).some((token) => ends.includes(token))).toBe(false);
    }
  });

  test("at the limit of tokens, and where the context is full", async () => {
    const engine = new HybridEngine(await loadLlama({ max_position_embeddings: 16 }));
    const { responses, finishReasons } = engine.generate([new Array<number>(13).fill(7), [7]], { maxNewTokens: 6, eosTokenId: null });
    // 16 - 13 = 3 tokens fit; the other prompt has room for all 6.
    expect(responses.map((response) => response.length)).toEqual([3, 6]);
    expect(finishReasons).toEqual(["length", "length"]);
  });

  test("when its text contains a stop string, also one that spans tokens", async () => {
    const model = await loadLlama();
    const [, t1 = 0, t2 = 0] = uncachedGreedy(model, [5, 6, 7], 3);
    const tokenizer: TextDecoder = { decode: (ids) => ids.map((id) => `<${id}>`).join("") };
    const engine = new HybridEngine(model, { tokenizer });
    const { responses, finishReasons } = engine.generate([[5, 6, 7]], {
      temperature: 0,
      maxNewTokens: 9,
      eosTokenId: null,
      stop: ["nowhere", `${t1}><${t2}`],
    });
    expect(responses[0]).toHaveLength(3);
    expect(finishReasons).toEqual(["stop"]);
  });

  test("at a stop string of a real tokenizer", async () => {
    const folder = writeTinyModel(temporaryFolder(), { family: "llama", tokenizer: true });
    const [model, tokenizer] = [await CausalLM.load(folder, { dtype: "float32" }), await Tokenizer.load(folder)];
    const free = new HybridEngine(model).generate([[40, 50]], { maxNewTokens: 20, eosTokenId: null, seed: 2 }).responses[0] ?? [];
    const stop = tokenizer.decode(free.slice(4, 6));
    const response =
      new HybridEngine(model, { tokenizer }).generate([[40, 50]], { maxNewTokens: 20, eosTokenId: null, seed: 2, stop: [stop] })
        .responses[0] ?? [];
    expect(response).toEqual(free.slice(0, response.length));
    expect(response.length).toBeLessThanOrEqual(6);
    expect(tokenizer.decode(response)).toContain(stop);
    expect(tokenizer.decode(response.slice(0, -1))).not.toContain(stop);
  });
});

test("no prompts give no answers", async () => {
  expect(new HybridEngine(await loadLlama()).generate([])).toEqual({ sequences: [], responses: [], logprobs: [], finishReasons: [] });
});

describe("refuses", () => {
  test.each<[GenerateOptions, RegExp]>([
    [{ maxNewTokens: 0 }, /^maxNewTokens: expected a whole number of at least 1, got 0$/],
    [{ maxNewTokens: 4, minNewTokens: 5 }, /^minNewTokens: expected a whole number in \[0, maxNewTokens = 4\], got 5$/],
    [{ temperature: -1 }, /^temperature: expected a number of at least 0, got -1$/],
    [{ temperature: Number.NaN }, /^temperature: expected a number of at least 0, got NaN$/],
    [{ topK: 1.5 }, /^topK: expected a whole number of at least 0, got 1.5$/],
    [{ topP: 0 }, /^topP: expected a number in \(0, 1\], got 0$/],
    [{ topP: 1.1 }, /^topP: expected a number in \(0, 1\], got 1.1$/],
    [{ samplesPerPrompt: 0 }, /^samplesPerPrompt: expected a whole number of at least 1, got 0$/],
    [{ maxNewTokens: [3, 4] }, /^maxNewTokens: expected one number or one for each of 1 prompts, got 2$/],
    [{ stop: ["x"] }, /^stop: .*make the engine with a tokenizer: new HybridEngine\(model, \{ tokenizer \}\)$/],
  ])("%o", async (options, message) => {
    const engine = new HybridEngine(await loadLlama());
    expectError(() => engine.generate([[5]], options), ConfigError, { code: "E_CONFIG", message });
  });

  test("a prompt that leaves no room in the context, one without tokens, and one with another vocabulary's tokens", async () => {
    const engine = new HybridEngine(await loadLlama({ max_position_embeddings: 8 }));
    expectError(() => engine.generate([[5], new Array<number>(8).fill(5)]), ConfigError, {
      code: "E_CONFIG",
      message: /^prompt 1 has 8 tokens, the model's context is 8 /,
    });
    expectError(() => engine.generate([[5], []]), ConfigError, {
      code: "E_CONFIG",
      message: /^prompt 1 is empty; give every prompt at least one token/,
    });
    expectError(() => engine.generate([[5, 96]]), RangeError, { message: /^row 0 has token 96, the vocabulary ends at 95/ });
  });

  test("an engine without slots or cache", async () => {
    const model = await loadLlama();
    expectError(() => new HybridEngine(model, { cacheBytes: 0 }), ConfigError, {
      code: "E_CONFIG",
      message: /^cacheBytes: expected a positive number, got 0$/,
    });
    expectError(() => new HybridEngine(model, { numSlots: 0 }), ConfigError, {
      code: "E_CONFIG",
      message: /^numSlots: expected a whole number of at least 1, got 0$/,
    });
  });

  function expectError(
    run: () => unknown,
    type: new (message: string) => Error,
    { message, ...rest }: { message: RegExp; code?: string },
  ): void {
    expect(run).toThrow(type);
    expect(run).toThrow(expect.objectContaining({ ...rest, message: expect.stringMatching(message) }));
  }
});
