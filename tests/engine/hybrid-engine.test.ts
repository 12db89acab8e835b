import { describe, expect, test } from "vitest";
import { type GenerateOptions, HybridEngine, type HybridEngineOptions } from "../../src/engine/hybrid-engine.ts";
import type { StreamedToken } from "../../src/engine/token-queue.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { collectGarbage, tensorMemory } from "../../src/tensor/system.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { failure, rejection } from "../failure.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const settings: GenerateOptions & { maxNewTokens: number } = { maxNewTokens: 12, eosTokenId: null, seed: 6 };

async function makeEngine(options: HybridEngineOptions = {}): Promise<HybridEngine> {
  const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" });
  return new HybridEngine(model, options);
}

async function collect(stream: AsyncIterable<StreamedToken>): Promise<StreamedToken[]> {
  const events: StreamedToken[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe("modes", () => {
  test("generating enters generate mode and reserves a cache; training frees it", async () => {
    const engine = await makeEngine();
    const liveBytes = () => {
      collectGarbage();
      return tensorMemory().liveBytes;
    };
    const before = liveBytes();
    engine.enterGenerate();
    expect(engine.cachePages).toEqual({ reserved: 0, used: 0 });
    engine.generate([[5, 6], [7]], settings);
    expect(engine.cachePages).toEqual({ reserved: 2, used: 0 });
    // 2 pages of 16 KiB, see the test of the budget's error.
    expect(liveBytes()).toBeGreaterThanOrEqual(before + 2 * 16 * 1024);
    engine.enterTrain();
    expect(engine.cachePages).toEqual({ reserved: 0, used: 0 });
    expect(liveBytes()).toBe(before);
  });

  test("each switch is timed, and only a switch", async () => {
    const engine = await makeEngine();
    expect(engine.switchSeconds).toEqual({ generate: 0, train: 0 });
    engine.enterTrain();
    expect(engine.switchSeconds.train).toBe(0);
    engine.enterGenerate();
    const { generate } = engine.switchSeconds;
    expect(generate).toBeGreaterThan(0);
    engine.generate([[5]], settings);
    engine.enterGenerate();
    expect(engine.switchSeconds).toEqual({ generate, train: 0 });
    engine.enterTrain();
    expect(engine.switchSeconds.train).toBeGreaterThan(0);
  });

  test("generation sees the weights as training has left them", async () => {
    const engine = await makeEngine();
    const greedy = () => engine.generate([[5, 6, 7]], { ...settings, temperature: 0 }).logprobs[0]?.[0];
    const before = greedy();
    engine.enterTrain();
    engine.model.decoder.layers[0]?.flat.mul_(1.5);
    expect(greedy()).not.toBe(before);
  });

  test("inside tidy too, the cache outlives the call", async () => {
    const engine = await makeEngine();
    const generate = () => engine.generate([[5, 6], [7]], settings).responses;
    const first = tidy(generate);
    expect(tidy(generate)).toEqual(first);
    expect(generate()).toEqual(first);
  });

  test("int8 weights sample nearly the same distribution, follow training, and go with the mode", async () => {
    const model = await CausalLM.load(writeTinyModel(temporaryFolder(), { family: "llama" }), { dtype: "float32" });
    const live = () => {
      collectGarbage();
      return tensorMemory().liveTensors;
    };
    const engine = new HybridEngine(model, { weights: "int8" });
    const before = live();
    const gap = () => {
      const { sequences, responses, logprobs } = engine.generate([[5, 6, 9], [7]], settings);
      const counts = sequences.map((tokens, i) => tokens.map((_, t) => t >= tokens.length - (responses[i]?.length ?? 0)));
      const trained = noGrad(() => model.tokenLogprobs(sequences, { counts }).logprobs.numbers());
      const sampled = logprobs.flat();
      return trained.reduce((sum, value, i) => sum + Math.abs(value - (sampled[i] ?? Number.NaN)), 0) / trained.length;
    };
    // Rounding to 1/127 of a row's largest element: more than float32's 1e-6, far less than other weights.
    expect(gap()).toBeGreaterThan(1e-5);
    expect(gap()).toBeLessThan(0.06);
    for (const { flat } of model.blocks) flat.mul_(1.5);
    expect(gap()).toBeGreaterThan(0.2); // the old weights
    engine.enterTrain();
    expect(live()).toBeLessThanOrEqual(before); // fewer when the first collection was not complete
    expect(gap()).toBeLessThan(0.1);
  });

  test("one mode's calls share the cache; released, it is made again", async () => {
    const engine = await makeEngine();
    const first = engine.generate([[5, 6]], settings);
    engine.generate([[5, 6], [7], [8]], settings);
    expect(engine.cachePages.reserved).toBe(3);
    expect(engine.generate([[5, 6]], settings)).toEqual(first);
    expect(engine.cachePages.reserved).toBe(3);
    engine.releaseCache();
    expect(engine.cachePages.reserved).toBe(0);
    expect(engine.generate([[5, 6]], settings)).toEqual(first);
    expect(engine.cachePages.reserved).toBe(1);
  });

  test("what stops in the middle leaves nothing behind", async () => {
    const engine = await makeEngine({ numSlots: 2 });
    let steps = 0;
    const stopRequested = () => ++steps > 3;
    expect(failure(() => engine.generate([[5], [6], [7]], { ...settings, stopRequested })).name).toBe("GenerationStopped");
    expect(engine.cachePages.used).toBe(0);
    expect(engine.generate([[5]], settings)).toEqual((await makeEngine()).generate([[5]], settings));
  });
});

describe("a stream", () => {
  test("gives the tokens and log-probabilities of generate", async () => {
    const engine = await makeEngine();
    const { responses, logprobs } = engine.generate([[5, 6, 7]], settings);
    const events = await collect(engine.stream([5, 6, 7], settings));
    expect(events.map(({ token }) => token)).toEqual(responses[0]);
    expect(events.map(({ logprob }) => logprob)).toEqual(logprobs[0]);
    expect(events.map(({ finishReason }) => finishReason)).toEqual([...new Array<undefined>(11).fill(undefined), "length"]);
  });

  test("shares its steps with other streams, and each gets what it would get alone", async () => {
    const engine = await makeEngine();
    const prompts = [[5, 6, 7], [8], [9, 10]];
    const { responses } = engine.generate(prompts, settings);
    const order: number[] = [];
    const read = async (i: number) => {
      const tokens: number[] = [];
      for await (const { token } of engine.stream(prompts[i] ?? [], { ...settings, firstRequest: i })) {
        tokens.push(token);
        order.push(i);
      }
      return tokens;
    };
    expect(await Promise.all([read(0), read(1), read(2)])).toEqual(responses);
    expect(order).toEqual(Array.from({ length: 36 }, (_, n) => n % 3));
    expect(engine.cachePages.used).toBe(0);
  });

  test("goes on while generate runs, which neither changes", async () => {
    const engine = await makeEngine();
    const alone = { stream: engine.generate([[5, 6]], settings).responses[0], batch: engine.generate([[7], [8, 9]], settings).responses };
    const stream = engine.stream([5, 6], settings);
    const first = await stream.next();
    expect(engine.generate([[7], [8, 9]], settings).responses).toEqual(alone.batch);
    const rest = await collect(stream);
    expect([first.value, ...rest].map((event) => (event as StreamedToken).token)).toEqual(alone.stream);
  });

  test("lets other work of the process run between its tokens", async () => {
    const engine = await makeEngine();
    let turns = 0, isOver = false;
    const work = () => {
      turns++;
      if (!isOver) setImmediate(work);
    };
    setImmediate(work);
    await collect(engine.stream([5], settings));
    isOver = true;
    expect(turns).toBeGreaterThanOrEqual(11);
  });

  test("computes nothing while it is not read", async () => {
    const engine = await makeEngine();
    const stream = engine.stream([5], settings);
    await stream.next();
    let computed = 0;
    const { runner } = engine.model;
    engine.model.runner = {
      run: (block, forward, x) => {
        computed++;
        return runner.run(block, forward, x);
      },
    };
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    expect(computed).toBe(0);
    await stream.next();
    expect(computed).toBeGreaterThan(0);
    await stream.return(undefined);
  });

  test("that is left frees its pages, and the others go on", async () => {
    const engine = await makeEngine();
    const expected = engine.generate([[5, 6, 7], [8]], settings).responses[1];
    const left = engine.stream([5, 6, 7], settings), other = engine.stream([8], { ...settings, firstRequest: 1 });
    const [, event] = await Promise.all([left.next(), other.next()]);
    expect(engine.cachePages.used).toBe(2);
    for await (const { token } of left) {
      expect(token).toBeGreaterThanOrEqual(0);
      break;
    }
    expect(engine.cachePages.used).toBe(1);
    expect(await left.next()).toEqual({ done: true, value: undefined });
    const rest = await collect(other);
    expect([(event.value as StreamedToken).token, ...rest.map(({ token }) => token)]).toEqual(expected);
  });

  test("ends with its signal's reason, between tokens and while it waits for one, and the others go on", async () => {
    const engine = await makeEngine();
    const expected = engine.generate([[8], [8]], settings).responses[1];
    const controllers = [new AbortController(), new AbortController(), AbortSignal.abort(new Error("too late"))] as const;
    const idle = engine.stream([5], { ...settings, signal: controllers[0].signal });
    await idle.next();
    const waiting = engine.stream([6], { ...settings, signal: controllers[1].signal });
    const other = collect(engine.stream([8], { ...settings, firstRequest: 1 }));
    const next = rejection(() => waiting.next());
    controllers[0].abort(new Error("first"));
    controllers[1].abort(new Error("second"));
    expect((await rejection(() => idle.next())).message).toBe("first");
    expect((await next).message).toBe("second");
    expect((await rejection(() => engine.stream([6], { ...settings, signal: controllers[2] }).next())).message).toBe("too late");
    expect(await idle.next()).toEqual({ done: true, value: undefined });
    expect((await other).map(({ token }) => token)).toEqual(expected);
    expect(engine.cachePages.used).toBe(0);
  });

  test("ends with the error of a step that fails, as all others do; the engine can be used again", async () => {
    let isBroken = false;
    const tokenizer = {
      decode: () => {
        if (isBroken) throw new Error("cannot decode");
        return "";
      },
    };
    const engine = await makeEngine({ tokenizer });
    const expected = engine.generate([[5]], settings);
    const streams = [engine.stream([5], { ...settings, stop: ["x"] }), engine.stream([6], settings), engine.stream([7], settings)];
    await Promise.all(streams.map((stream) => stream.next()));
    isBroken = true;
    // The third one is not being read when it happens.
    const errors = await Promise.all(streams.slice(0, 2).map((stream) => rejection(() => stream.next())));
    expect(errors.map(({ message }) => message)).toEqual(["cannot decode", "cannot decode"]);
    expect((await rejection(() => collect(streams[2] as AsyncIterable<StreamedToken>))).message).toBe("cannot decode");
    expect(engine.generate([[5]], settings)).toEqual(expected);
    expect(failure(() => engine.generate([[5]], { ...settings, stop: ["x"] })).message).toBe("cannot decode");
    isBroken = false;
    expect(engine.generate([[5]], { ...settings, stop: ["x"] })).toEqual(expected);
  });

  test("that waits for a slot gets its tokens when there is one", async () => {
    const engine = await makeEngine({ numSlots: 1 });
    const events = await Promise.all([collect(engine.stream([5], settings)), collect(engine.stream([6], settings))]);
    expect(events.map((all) => all.length)).toEqual([12, 12]);
  });

  test("ends when the engine goes to training, and keeps its cache from being released", async () => {
    const engine = await makeEngine();
    const stream = engine.stream([5], settings);
    await stream.next();
    expect(failure(() => engine.releaseCache()).message).toBe("the cache is in use by 1 streams; leave them first");
    engine.enterTrain();
    expect(await rejection(() => stream.next())).toEqual({
      name: "GenerationStopped",
      code: undefined,
      message: "the engine left its generate mode before the answer was complete",
    });
    engine.releaseCache();
  });

  test("refuses what generate refuses, at the first read", async () => {
    const engine = await makeEngine();
    expect((await rejection(() => engine.stream([5], { maxNewTokens: 0 }).next())).code).toBe("E_CONFIG");
    expect((await rejection(() => engine.stream([]).next())).message).toMatch(/^prompt 0 is empty/);
  });
});
