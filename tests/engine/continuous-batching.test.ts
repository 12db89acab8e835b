import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Generation, type GenerationLimits } from "../../src/engine/generation.ts";
import { HybridEngine } from "../../src/engine/hybrid-engine.ts";
import { pageBytes } from "../../src/engine/kv-cache.ts";
import type { Generated, GenerationRequest } from "../../src/engine/request.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { plainRunner } from "../../src/model/layer-runner.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";
import { type TinyModelOptions, writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const load = (family: TinyModelOptions["family"] = "llama", dtype: "float32" | "bfloat16" = "float32") =>
  CausalLM.load(writeTinyModel(temporaryFolder(), { family, config: { max_position_embeddings: 160 } }), { dtype });

/** So many tokens from 5 on, different for each `start`. */
const promptOf = (length: number, start = 0) => Array.from({ length }, (_, t) => 5 + ((start * 17 + t * 7) % 90));
/** Lengths around the page size of 32. */
const prompts = [70, 1, 32, 33, 5, 31, 64].map(promptOf);
const settings = { maxNewTokens: 40, seed: 3, eosTokenId: null };
const requests: GenerationRequest[] = prompts.map((prompt, id) => ({ ...settings, prompt, id }));

/** The cache's budget in pages. */
const limitsOf = (model: CausalLM, { numSlots = 32, numPages = 1000 } = {}): GenerationLimits =>
  ({ numSlots, cacheBytes: numPages * pageBytes(model.spec, model.dtype) });

function runToEnd(generation: Generation, most = Infinity): void {
  while (!generation.isFinished) {
    expect(generation.step().length).toBeLessThanOrEqual(most);
    expect(generation.cachePages.used).toBeLessThanOrEqual(generation.cachePages.reserved);
  }
  expect(generation.cachePages.used).toBe(0);
}

type Bounds = { numSlots?: number; numPages?: number };

function answersOf(model: CausalLM, wanted: readonly GenerationRequest[], bounds: Bounds = {}): Generated[] {
  const generation = new Generation(model, limitsOf(model, bounds));
  const answers = generation.add(wanted).flat();
  runToEnd(generation, bounds.numSlots);
  return answers;
}

/** Each in a batch of its own. */
const alone = (model: CausalLM, wanted: readonly GenerationRequest[]) => wanted.flatMap((request) => answersOf(model, [request]));

function expectSame(actual: readonly Generated[], expected: readonly Generated[]): void {
  expect(actual.map(({ response, finishReason }) => ({ response, finishReason }))).toEqual(
    expected.map(({ response, finishReason }) => ({ response, finishReason })),
  );
  assertClose(actual.flatMap(({ logprobs }) => logprobs), expected.flatMap(({ logprobs }) => logprobs), { rtol: 0, atol: 2e-5 });
}

describe.each(["llama", "opt"] as const)("%s: answers do not depend on", (family) => {
  test("the other requests, the slots and the cache's budget", async () => {
    const model = await load(family);
    const expected = alone(model, requests);
    for (const numSlots of [1, 2, 7]) expectSame(answersOf(model, requests, { numSlots }), expected);
    // The longest, 70 + 40 - 1 tokens, needs 4 pages; all together need 19.
    for (const numPages of [4, 5, 9]) expectSame(answersOf(model, requests, { numPages }), expected);
  });

  test("whether a prompt's pages are shared, whatever slots and budget are", async () => {
    const model = await load(family);
    const shared = requests.map((request, i) => ({ ...request, id: 3 * i, numSamples: 3 }));
    const repeated = shared.flatMap(({ numSamples: _, ...request }) => [0, 1, 2].map((s) => ({ ...request, id: request.id + s })));
    const expected = answersOf(model, repeated);
    expect(new Set(expected.map(({ response }) => String(response))).size).toBe(21);
    for (const bounds of [{}, { numSlots: 1 }, { numSlots: 2 }, { numSlots: 4 }, { numPages: 5 }, { numPages: 8 }]) {
      expectSame(answersOf(model, shared, bounds), expected);
    }
  });
});

test("in bfloat16 an answer is the same to the last bit, alone and in any batch", async () => {
  const model = await load("llama", "bfloat16");
  const small = [7, 1, 3, 5, 2].map((length, id) => ({ ...settings, prompt: promptOf(length, id), id }));
  const expected = alone(model, small);
  for (const numSlots of [2, 5]) {
    const answers = answersOf(model, small, { numSlots });
    expect(answers.map(({ response }) => response)).toEqual(expected.map(({ response }) => response));
    expect(answers.map(({ logprobs }) => logprobs)).toEqual(expected.map(({ logprobs }) => logprobs));
  }
});

test("every request of a batch has its own options", async () => {
  const model = await load();
  const [first] = alone(model, [{ prompt: prompts[0] ?? [], id: 0, maxNewTokens: 9, temperature: 0, eosTokenId: null }]);
  const own: GenerationRequest[] = [
    { prompt: prompts[0] ?? [], id: 0, maxNewTokens: 9, temperature: 0, eosTokenId: first?.response[4] ?? 0 },
    { prompt: prompts[1] ?? [], id: 1, maxNewTokens: 30, temperature: 1.4, seed: 8, eosTokenId: null },
    { prompt: prompts[2] ?? [], id: 7, maxNewTokens: 3, topK: 2, seed: 9 },
    { prompt: prompts[3] ?? [], id: 7, maxNewTokens: 20, topP: 0.5, seed: 9, minNewTokens: 20, eosTokenId: [30, 31, 32] },
    { prompt: prompts[4] ?? [], id: 9, maxNewTokens: 200, eosTokenId: null }, // to the end of the context: 155 tokens
  ];
  const answers = answersOf(model, own);
  expectSame(answers, alone(model, own));
  const end = (first?.response.indexOf(first.response[4] ?? 0) ?? 0) + 1;
  expect(answers.map(({ response }) => response.length)).toEqual([end, 30, 3, 20, 155]);
});

describe("the cache's pages", () => {
  test("of a prompt that are full are used once, the others once for each answer", async () => {
    const model = await load();
    const use = (numSamples: number, length: number) => {
      const generation = new Generation(model, limitsOf(model));
      generation.add([{ ...settings, maxNewTokens: 10, prompt: promptOf(length), id: 0, numSamples }]);
      generation.step();
      return generation.cachePages.used;
    };
    // 70 + 10 - 1 tokens: 3 pages, of which the prompt fills 2.
    expect([use(1, 70), use(4, 70)]).toEqual([3, 2 + 4]);
    // 64 + 10 - 1 tokens: 3 pages, of which the prompt fills 2 to the brim.
    expect([use(1, 64), use(4, 64)]).toEqual([3, 2 + 4]);
    // 20 + 10 - 1 tokens: 1 page, which the prompt does not fill.
    expect([use(1, 20), use(4, 20)]).toEqual([1, 4]);
  });

  test("let a prompt be computed once, also when its answers start one after the other", async () => {
    const model = await load();
    let computed = 0;
    model.runner = {
      run: (block, forward, x) => {
        if (block.name === "embedding") computed += x.size;
        return plainRunner.run(block, forward, x);
      },
    };
    for (const numSlots of [1, 2, 8]) {
      computed = 0;
      const answers = answersOf(model, [{ ...settings, prompt: promptOf(70), id: 0, numSamples: 5 }], { numSlots });
      // An answer's first token comes from the prompt, its last one is never computed on.
      expect(computed).toBe(70 + answers.reduce((sum, { response }) => sum + response.length - 1, 0));
    }
  });

  test("are waited for when they are short, in order", async () => {
    const model = await load();
    const generation = new Generation(model, limitsOf(model, { numPages: 5 }));
    const [long, short, last] = generation.add([
      { ...settings, prompt: promptOf(70), id: 0 }, // 4 pages
      { ...settings, prompt: promptOf(33), id: 1 }, // 3 pages
      { ...settings, prompt: promptOf(5), id: 2, maxNewTokens: 2 }, // 1 page: there is one, but it is not its turn
    ]).flat();
    const lengths = () => [long, short, last].map((answer) => answer?.response.length);
    generation.step();
    generation.step();
    expect(lengths()).toEqual([2, 0, 0]);
    while (long?.finishReason === undefined) generation.step();
    expect(lengths()).toEqual([40, 0, 0]);
    generation.step();
    expect(lengths()).toEqual([40, 1, 1]);
    runToEnd(generation);
    expect(lengths()).toEqual([40, 40, 2]);
    expect(generation.cachePages.reserved).toBe(5);
  });

  test("are reserved for as many of the longest request as can run at once, and kept for later", async () => {
    const model = await load();
    const generation = new Generation(model, limitsOf(model, { numSlots: 2, numPages: 7 }));
    expect(generation.cachePages.reserved).toBe(0);
    generation.add([{ ...settings, prompt: promptOf(33), id: 0 }]); // 72 tokens
    expect(generation.cachePages.reserved).toBe(3);
    runToEnd(generation);
    generation.add(requests); // two times 4 would be 8
    expect(generation.cachePages.reserved).toBe(7);
    runToEnd(generation);
    generation.add([{ ...settings, prompt: promptOf(1), id: 0 }]);
    expect(generation.cachePages.reserved).toBe(7);
  });

  test("a request that could never have them is refused, and none of its batch is taken", async () => {
    const model = await load();
    const generation = new Generation(model, limitsOf(model, { numPages: 3 }));
    // A page of llama: keys and values, 2 layers, 2 heads, 32 tokens, 8 padded to 16 numbers of 4 bytes: 16 KiB.
    expect(failure(() => generation.add([{ ...settings, prompt: [5], id: 0 }, { ...settings, prompt: promptOf(70), id: 1 }]))).toEqual({
      name: "ConfigError",
      code: "E_CONFIG",
      message:
        "prompt 1: its 70 tokens and an answer of up to 40 need 64.0 KiB of the key-value cache, whose budget is 48.0 KiB; " +
        "raise cacheBytes, lower maxNewTokens or shorten the prompt",
    });
    expect(generation.isFinished).toBe(true);
    // Alone it fits; two answers to it need a copy of the page that the prompt does not fill.
    const request = { ...settings, maxNewTokens: 20, prompt: promptOf(70), id: 0 };
    expect(generation.add([request]).flat()).toHaveLength(1);
    expect(failure(() => generation.add([{ ...request, numSamples: 2 }])).message).toMatch(/^prompt 0: .* need 64.0 KiB /);
    expect(generation.add([{ ...request, prompt: promptOf(64), numSamples: 2 }]).flat()).toHaveLength(2);
    runToEnd(generation);
  });
});

test("a prefill takes prompts of 512 tokens together, or one longer prompt alone", async () => {
  const config = { max_position_embeddings: 5000, num_hidden_layers: 1 };
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama", config }), { dtype: "float32" });
  const generation = new Generation(model, limitsOf(model));
  const answers = generation.add([250, 262, 1, 750, 3].map((length, id) => ({ prompt: promptOf(length), id, maxNewTokens: 1 }))).flat();
  const steps: number[][] = [];
  while (!generation.isFinished) steps.push(generation.step().map((answer) => answers.indexOf(answer)));
  expect(steps).toEqual([[0, 1], [2], [3], [4]]);
});

describe("requests come and go while others run", () => {
  test("added later, longer than all before: the cache grows and nobody's answer changes", async () => {
    const model = await load();
    const generation = new Generation(model, limitsOf(model, { numSlots: 3 }));
    const answers = new Map<number, Generated>();
    for (const i of [1, 4, 5, 2, 6, 3, 0]) {
      const request = requests[i];
      if (!request) throw new Error("no such request");
      const [[answer] = []] = generation.add([request]);
      if (answer) answers.set(i, answer);
      for (let n = 0; n < 3; n++) generation.step();
    }
    runToEnd(generation);
    expectSame(requests.flatMap((_, i) => answers.get(i) ?? []), alone(model, requests));
  });

  test("a cancelled one frees its slot and its pages and leaves the others as they were", async () => {
    const model = await load();
    const undisturbed = alone(model, requests);
    const generation = new Generation(model, limitsOf(model, { numSlots: 3 }));
    const answers = generation.add(requests).flat();
    const running = () => generation.step().map((answer) => answers.indexOf(answer));
    expect(running()).toEqual([0, 1, 2]);
    expect(running()).toEqual([0, 1, 2]);
    const before = generation.cachePages.used;
    for (const i of [0, 4]) generation.cancel(answers[i] as Generated);
    expect(generation.cachePages.used).toBe(before - 4);
    expect(running()).toEqual([3]); // the free slot takes the next prompt
    expect(running()).toEqual([1, 2, 3]);
    runToEnd(generation);
    generation.cancel(answers[1] as Generated); // it has ended already
    expect(answers.map(({ finishReason }) => finishReason)).toEqual(["stop", ..."length length length stop length length".split(" ")]);
    expect(answers[0]?.response).toEqual(undisturbed[0]?.response.slice(0, 2));
    expect(answers[4]?.response).toEqual([]);
    const others = [1, 2, 3, 5, 6];
    expectSame(others.flatMap((i) => answers[i] ?? []), others.flatMap((i) => undisturbed[i] ?? []));
  });

  test("answers to one prompt are cancelled one by one, before and after it is computed", async () => {
    const model = await load();
    const request = { ...settings, prompt: promptOf(70), id: 0 };
    const undisturbed = answersOf(model, [{ ...request, numSamples: 5 }]);
    const generation = new Generation(model, limitsOf(model, { numSlots: 1 }));
    const answers = generation.add([{ ...request, numSamples: 5 }]).flat();
    const cancel = (i: number) => generation.cancel(answers[i] as Generated);
    cancel(0);
    generation.step();
    cancel(1); // it runs
    cancel(2); // it waits
    generation.step();
    cancel(4); // the last one
    runToEnd(generation);
    expect(answers.map(({ response }) => response.length)).toEqual([0, 1, 0, 40, 0]);
    expectSame([answers[3] as Generated], [undisturbed[3] as Generated]);
    generation.add([{ ...request, numSamples: 3 }]).flat().forEach((answer, i) => {
      if (i === 0) generation.step();
      generation.cancel(answer);
    });
    expect([generation.isFinished, generation.cachePages.used]).toEqual([true, 0]);
  });

  test("in any order: every answer is what it is alone, and all pages come back", async () => {
    const model = await load();
    const whole = new Map(alone(model, requests).map((answer, id) => [id, answer.response]));
    const action = fc.record({ kind: fc.constantFrom("add", "step", "step", "step", "cancel"), pick: fc.nat({ max: 6 }) });
    const slots = fc.integer({ min: 1, max: 4 }), budget = fc.integer({ min: 5, max: 14 });
    fc.assert(
      fc.property(slots, budget, fc.array(action, { maxLength: 40 }), (numSlots, numPages, actions) => {
        const generation = new Generation(model, limitsOf(model, { numSlots, numPages }));
        const taken: { answer: Generated; id: number; isCancelled: boolean }[] = [];
        for (const { kind, pick } of actions) {
          const request = requests[pick] as GenerationRequest;
          if (kind === "add") {
            for (const answer of generation.add([request]).flat()) taken.push({ answer, id: pick, isCancelled: false });
          } else if (kind === "step") {
            generation.step();
          } else {
            const chosen = taken[pick];
            if (chosen?.answer.finishReason !== undefined || !chosen) continue;
            chosen.isCancelled = true;
            generation.cancel(chosen.answer);
          }
        }
        runToEnd(generation, numSlots);
        for (const { answer, id, isCancelled } of taken) {
          expect(answer.response).toEqual(isCancelled ? whole.get(id)?.slice(0, answer.response.length) : whole.get(id));
        }
      }),
      { numRuns: 15, seed: 1 },
    );
  });
});

test("generate takes an answer's length for each prompt, and groups the answers to a prompt", async () => {
  const engine = new HybridEngine(await load());
  const options = { ...settings, maxNewTokens: [3, 5], samplesPerPrompt: 2, firstRequest: 10 };
  const { sequences, responses, logprobs, finishReasons } = engine.generate([promptOf(4), promptOf(40)], options);
  expect(responses.map((response) => response.length)).toEqual([3, 3, 5, 5]);
  expect(logprobs.map((values) => values.length)).toEqual([3, 3, 5, 5]);
  expect(sequences.map((sequence) => sequence.length)).toEqual([7, 7, 45, 45]);
  expect(finishReasons).toEqual(["length", "length", "length", "length"]);
  const [, , , last] = responses;
  expect(engine.generate([promptOf(40)], { ...settings, maxNewTokens: 5, firstRequest: 13 }).responses).toEqual([last]);
});
