import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import {
  boundOf, cacheBytes, decodeStepWork, forwardFlops, iterationSeconds, meanContext, type ModelShape, prefillWork, readShape, trainedBytes,
  trainFlops, weightBytes,
} from "../../bench/lib/roofline.ts";

const shape: ModelShape = {
  elementBytes: 2, parameters: 1700, decoderParameters: 1400, layerParameters: 1000, headParameters: 300,
  numLayers: 2, numHeads: 4, numKvHeads: 1, headDim: 8, vocabSize: 30, maxPositions: 64,
};

function golden(name: string): string {
  return fileURLToPath(new URL(`../fixtures/goldens/${name}`, import.meta.url));
}

describe("readShape", () => {
  // Hidden 64, 2 layers, 4 heads of 16, MLP 160, vocabulary 512. A layer: queries and output 2 * 64 * 64, MLP 3 * 64 * 160, norms
  // 2 * 64, keys and values 2 * 64 * 16 a head.
  test("counts a tied table once, as the head", async () => {
    const layers = 2 * (2 * 64 * 64 + 2 * 64 * 16 + 3 * 64 * 160 + 2 * 64) + 64;
    expect(await readShape(golden("tiny-llama-tied"), "float32")).toEqual({
      elementBytes: 4, parameters: layers + 512 * 64, decoderParameters: layers + 512 * 64,
      layerParameters: layers, headParameters: 512 * 64,
      numLayers: 2, numHeads: 4, numKvHeads: 1, headDim: 16, vocabSize: 512, maxPositions: 128,
    });
    expect(layers + 512 * 64).toBe(115_008);
  });

  test("counts a table of its own as a weight, but not as work", async () => {
    const layers = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 160 + 2 * 64) + 64;
    expect(await readShape(golden("tiny-llama"), "bfloat16")).toMatchObject({
      elementBytes: 2, parameters: layers + 2 * 512 * 64, decoderParameters: layers + 512 * 64,
      layerParameters: layers, headParameters: 512 * 64, numKvHeads: 2,
    });
  });

  test("names the file that is missing", async () => {
    await expect(readShape(golden("none"), "float32")).rejects.toMatchObject({ name: "CheckpointError", code: "E_CHECKPOINT" });
  });
});

describe("work", () => {
  test("a token in the cache is a key and a value in each layer and head", () => {
    expect(cacheBytes(shape, 10)).toBe(10 * 2 * 2 * 1 * 8 * 2);
    expect(weightBytes(shape)).toBe(3400);
  });

  test("answers of 3 tokens take 2 steps, which see 1 and 2 of them", () => {
    expect(meanContext(10, 3)).toBe(10 + (1 + 2) / 2);
  });

  test("a decode step reads the weights once, whatever the batch", () => {
    // Attention: 2 operations for the score and 2 for the value, of 8 numbers, 4 heads, 2 layers and 3 * 5 tokens.
    expect(decodeStepWork(shape, { batch: 3, context: 5 })).toEqual({
      bytes: 2 * 1300 + 3 * 5 * 64, flops: 2 * 1300 * 3 + 4 * 8 * 4 * 2 * 15,
    });
  });

  test("in int8 it reads one byte a weight, and the copy lies beside the weights", () => {
    expect(decodeStepWork(shape, { batch: 3, context: 5, weights: "int8" })).toMatchObject({ bytes: 1300 + 3 * 5 * 64 });
    expect(weightBytes(shape, "int8")).toBe(3400 + 1300);
  });

  test("a prefill multiplies the head with one token of each prompt, and token i attends to i", () => {
    // Prompts of 3 and 4 tokens: 7 tokens through the layers, 2 through the head, (1 + 2 + 3) + (1 + 2 + 3 + 4) pairs.
    expect(prefillWork(shape, [3, 4])).toEqual({
      bytes: 2 * 1300 + 7 * 64, flops: 2 * (1000 * 7 + 300 * 2) + 4 * 8 * 4 * 2 * 16,
    });
  });

  test("training takes three times a forward, and the head only what is predicted", () => {
    expect(forwardFlops(shape, { tokens: 5, predicted: 2 })).toBe(2 * (5 * 1000 + 2 * 300));
    expect(trainFlops(shape, { tokens: 5, predicted: 5 })).toBe(6 * 5 * 1300);
  });

  test("a trained parameter has four float32 numbers, or three beside a bfloat16 weight with its master", () => {
    // weight, gradient, mean, mean of squares; in bfloat16 a weight of 2 bytes, and those three and the master in float32.
    expect([trainedBytes(4), trainedBytes(2)]).toEqual([16, 18]);
  });

  test("an iteration is prefill, decode steps of the rows that run, scoring and training", () => {
    // So fast a memory that only operations count, one a second. Prompts of 3 and 4 tokens, answers of 3 and 2: 12 tokens, 5 predicted.
    const answers = { promptLengths: [3, 4], responseLengths: [3, 2] };
    const prefill = 2 * (1000 * 7 + 300 * 2) + 4 * 8 * 4 * 2 * 16;
    // The first step decodes both rows, with 3 + 1 and 4 + 1 tokens in the cache; the second only the first, with 3 + 2.
    const decode = 2 * 1300 * 3 + 4 * 8 * 4 * 2 * (4 + 5 + 5);
    const withHead = 12 * 1000 + 5 * 300, without = 12 * 1000;
    expect(iterationSeconds(shape, answers, { bytesPerSecond: Infinity, flopsPerSecond: 1 })).toEqual({
      generate: prefill + decode, score: 2 * (withHead + 2 * without), train: 6 * withHead + 4 * without,
    });
  });

  test("the slower of memory and arithmetic is the bound", () => {
    const limits = { bytesPerSecond: 100, flopsPerSecond: 1000 };
    expect(boundOf({ bytes: 200, flops: 1000 }, limits)).toEqual({ seconds: 2, boundBy: "memory" });
    expect(boundOf({ bytes: 200, flops: 5000 }, limits)).toEqual({ seconds: 5, boundBy: "compute" });
  });
});
