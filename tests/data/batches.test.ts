import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { minibatches, shard, trainingBatches } from "../../src/data/batches.ts";
import { epochOrder, shuffleIndices } from "../../src/data/shuffle.ts";
import { expectConfigError } from "./expect-config-error.ts";

describe("epochOrder", () => {
  test("is the shuffle with the documented seed", () => {
    // 0x9e3779b9 = 2654435769; 1234 + 2 * 2654435769 = 5308872772 = 2^32 + 1013905476
    expect(epochOrder(50, 1234, 0)).toEqual(shuffleIndices(2654437003, 50));
    expect(epochOrder(50, 1234, 1)).toEqual(shuffleIndices(1013905476, 50));
  });

  test("repeats no other epoch and not the shuffle of the data", () => {
    const orders = [shuffleIndices(7, 40), ...Array.from({ length: 20 }, (_, epoch) => epochOrder(40, 7, epoch))];
    expect(new Set(orders.map((order) => order.join())).size).toBe(21);
  });
});

describe("minibatches", () => {
  test("cuts the order in runs, the last one short or left out", () => {
    expect([...minibatches([4, 0, 3, 1, 2], 2)]).toEqual([[4, 0], [3, 1], [2]]);
    expect([...minibatches([4, 0, 3, 1, 2], 2, { dropLast: true })]).toEqual([[4, 0], [3, 1]]);
    expect([...minibatches([4, 0, 3, 1], 2, { dropLast: true })]).toEqual([[4, 0], [3, 1]]);
    expect([...minibatches([4, 0, 3, 1, 2], 2, { start: 2 })]).toEqual([[3, 1], [2]]);
    expect([...minibatches([4, 0], 2, { start: 2 })]).toEqual([]);
  });

  test("refuses to drop everything", async () => {
    await expectConfigError(
      () => [...minibatches([0, 1, 2], 4, { dropLast: true })],
      /^a batch of 4: expected as many samples, found 3; lower/,
    );
  });

  test.each([0, 1.5, -1])("refuses a batch size of %d", (batchSize) => {
    expect(() => [...minibatches([0, 1], batchSize)]).toThrow(RangeError);
  });
});

describe("trainingBatches", () => {
  test("visits every sample once in each epoch", () => {
    const batches = [...trainingBatches({ size: 7, batchSize: 3, seed: 5, numEpochs: 2 })];
    expect(batches.map((batch) => batch.rows.length)).toEqual([3, 3, 1, 3, 3, 1]);
    expect(batches.slice(0, 3).flatMap((batch) => batch.rows)).toEqual(Array.from(epochOrder(7, 5, 0)));
    expect(batches.slice(3).flatMap((batch) => batch.rows)).toEqual(Array.from(epochOrder(7, 5, 1)));
    expect(batches.map((batch) => batch.next)).toEqual([
      { epoch: 0, index: 3 }, { epoch: 0, index: 6 }, { epoch: 0, index: 7 },
      { epoch: 1, index: 3 }, { epoch: 1, index: 6 }, { epoch: 1, index: 7 },
    ]);
  });

  test("goes on from any saved state as the uninterrupted run", () => {
    const samplers = fc.record({
      size: fc.integer({ min: 5, max: 20 }),
      batchSize: fc.integer({ min: 1, max: 5 }),
      numEpochs: fc.integer({ min: 1, max: 3 }),
      seed: fc.nat(),
      dropLast: fc.boolean(),
    });
    fc.assert(fc.property(samplers, (options) => {
      const whole = [...trainingBatches(options)];
      for (const [i, { next }] of whole.entries()) {
        expect([...trainingBatches({ ...options, from: next })]).toEqual(whole.slice(i + 1));
      }
    }));
  });
});

describe("shard", () => {
  test("cuts a minibatch into parts of nearly one size", () => {
    expect([0, 1, 2].map((rank) => shard([4, 0, 3, 1, 2], rank, 3))).toEqual([[4], [0, 3], [1, 2]]);
    expect([0, 1, 2].map((rank) => shard([7], rank, 3))).toEqual([[], [], [7]]);
  });

  test("gives all ranks together the order of one process, whatever their number", () => {
    const runs = fc.record({
      size: fc.integer({ min: 1, max: 60 }), batchSize: fc.integer({ min: 1, max: 20 }), seed: fc.nat(),
      worldSize: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(fc.property(runs, ({ worldSize, ...sampler }) => {
      for (const { rows } of trainingBatches({ ...sampler, numEpochs: 2 })) {
        const parts = Array.from({ length: worldSize }, (_, rank) => shard(rows, rank, worldSize));
        expect(parts.flat()).toEqual(rows);
        const sizes = parts.map((part) => part.length);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }
    }));
  });

  test.each([[-1, 2], [2, 2], [0.5, 2], [0, 0]])("refuses rank %d of %d", (rank, worldSize) => {
    expect(() => shard([1], rank, worldSize)).toThrow(RangeError);
  });
});
