import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, test } from "vitest";
import { tensor } from "../../src/tensor/create.ts";
import { numThreads, tensorMemory } from "../../src/tensor/system.ts";

describe("a worker thread that loads the addon too", () => {
  test("computes, goes backward on its own thread, ends cleanly, and leaves this thread's tensors and thread count alone", async () => {
    const here = tensor([1, 2, 3]);
    const threads = numThreads();
    for (let round = 0; round < 2; round++) {
      const worker = new Worker(new URL("worker.ts", import.meta.url));
      const ended = once(worker, "exit");
      const [answer] = await once(worker, "message");
      expect(answer).toEqual({ product: [[7, 10], [15, 22]], gradient: [2, 2], threads: 1 });
      expect(await ended).toEqual([0]);
    }
    expect(here.add(1).toArray()).toEqual([2, 3, 4]);
    expect(numThreads()).toBe(threads);
  });

  test("frees what the thread still held when it ended", async () => {
    const before = tensorMemory();
    const worker = new Worker(new URL("worker.ts", import.meta.url));
    await once(worker, "exit");
    expect(tensorMemory().liveTensors).toBeLessThanOrEqual(before.liveTensors);
  });
});
