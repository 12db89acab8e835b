import { describe, expect, test } from "vitest";
import { cutBlocks, textBlocks, type TextBlockOptions } from "../../src/data/text-blocks.ts";
import { expectConfigError } from "./expect-config-error.ts";
import { tempJsonl } from "./temp-file.ts";

/** A start token, then a token for each character. */
const encoder = {
  encodeBatch: async (texts: readonly string[], { addSpecialTokens }: { addSpecialTokens: boolean }) =>
    texts.map((text) => [...(addSpecialTokens ? [0] : []), ...[...text].map((character) => character.charCodeAt(0) - 96)]),
};

async function blocksOf(records: readonly unknown[], options: TextBlockOptions): Promise<number[][]> {
  const blocks: number[][] = [];
  for await (const block of textBlocks(tempJsonl(records), encoder, options)) blocks.push(block);
  return blocks;
}

test.each([
  [[[1, 2, 3], [4, 5]], 2, [[1, 2], [3, 4]]],
  [[[1, 2], [3, 4]], 2, [[1, 2], [3, 4]]],
  [[[1], [2]], 3, [[1, 2]]], // the original drops a rest only behind a whole block
  [[[]], 3, []],
])("cutBlocks: %j by %d is %j", (rows, blockSize, blocks) => {
  expect(cutBlocks(rows, blockSize)).toEqual(blocks);
});

describe("textBlocks", () => {
  const records = [{ text: "ab", id: 1 }, { text: "c" }, { text: "de" }, { text: "f" }];

  test("joins the texts of a batch, each with the tokenizer's start token, and throws its rest away", async () => {
    // 0 1 2 0 3 0 4 5 0 6
    expect(await blocksOf(records, { blockSize: 3 })).toEqual([[0, 1, 2], [0, 3, 0], [4, 5, 0]]);
    // 0 1 2 0 3 | 0 4 5 0 6
    expect(await blocksOf(records, { blockSize: 3, batchSize: 2 })).toEqual([[0, 1, 2], [0, 4, 5]]);
    // Whole batches leave no empty one behind.
    expect(await blocksOf(records, { blockSize: 2, batchSize: 4 })).toEqual([[0, 1], [2, 0], [3, 0], [4, 5], [0, 6]]);
  });

  test("takes the field text, the first one, or the one that is named", async () => {
    expect(await blocksOf([{ title: "a", text: "b" }], { blockSize: 2 })).toEqual([[0, 2]]);
    expect(await blocksOf([{ body: "a", id: "b" }], { blockSize: 2 })).toEqual([[0, 1]]);
    expect(await blocksOf([{ body: "a", id: "b" }], { blockSize: 2, field: "id" })).toEqual([[0, 2]]);
  });

  test("names the record that has no text", async () => {
    await expectConfigError(() => blocksOf([{ text: "a" }, { text: 3 }], { blockSize: 2 }),
      /data\.jsonl:2: field "text": expected text, found 3; name the field that holds it/);
    await expectConfigError(() => blocksOf([{ text: "a" }], { blockSize: 2, field: "body" }),
      /:1: field "body": expected text, found nothing; /);
    await expect(blocksOf([], { blockSize: 0 })).rejects.toThrow(RangeError);
  });
});
