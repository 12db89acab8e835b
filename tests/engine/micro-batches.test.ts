import { describe, expect, test } from "vitest";
import { microBatches } from "../../src/engine/micro-batches.ts";
import { failure } from "../failure.ts";

const cut = (texts: readonly string[], maxTokens: number) => microBatches(texts, (text) => text.length, maxTokens);

describe("microBatches", () => {
  test("fills each with as many sequences as fit, in order", () => {
    expect(cut(["aaa", "bbbb", "ccccc", "dd"], 7)).toEqual([["aaa", "bbbb"], ["ccccc", "dd"]]);
    expect(cut(["aaa", "bbbb", "ccccc", "dd"], 6)).toEqual([["aaa"], ["bbbb"], ["ccccc"], ["dd"]]);
    expect(cut(["a", "b", "c"], 100)).toEqual([["a", "b", "c"]]);
    expect(cut(["aaa", "bbb"], 3)).toEqual([["aaa"], ["bbb"]]);
  });

  test("of nothing are none", () => {
    expect(cut([], 4)).toEqual([]);
  });

  test("refuses a sequence that fits nowhere", () => {
    expect(failure(() => cut(["a", "bbbbb"], 4))).toEqual({
      name: "RangeError", code: undefined, message: "a sequence of 5 tokens does not fit into a micro-batch of 4; raise microBatchTokens",
    });
  });
});
