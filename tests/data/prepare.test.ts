import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { loadDataset } from "../../src/data/dataset.ts";
import { type ConversationEncoder, encodeDemonstrations, encodePreferences, encodePrompts } from "../../src/data/encode.ts";
import { type PreparedData, type PrepareOptions, prepareData } from "../../src/data/prepare.ts";
import { demonstrationEncoder, preferenceEncoder, promptEncoder } from "../../src/data/record-encoders.ts";
import { reportData } from "../../src/data/report.ts";
import { type Samples, take } from "../../src/data/samples.ts";
import { shuffleIndices } from "../../src/data/shuffle.ts";
import type { DataSource } from "../../src/data/sources/source.ts";
import type { Step } from "../../src/data/split.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { expectConfigError } from "./expect-config-error.ts";
import { tempFile, tempFolder, tempJsonl } from "./temp-file.ts";

/** One token per character, and 1 as end of turn. */
const encoder: ConversationEncoder = {
  endOfTurnTokenId: 1,
  encode: async (text) => codes(text),
  encodePrompt: async (messages) => messages.flatMap(({ content }) => [...codes(content), 1]),
  encodeConversation: async (messages: readonly Message[]) => {
    const turns = messages.map(({ role, content }) => ({ role, tokens: [...codes(content), 1] }));
    return {
      tokens: turns.flatMap(({ tokens }) => tokens),
      assistantMask: turns.flatMap(({ role, tokens }) => tokens.map(() => role === "assistant")),
    };
  },
};

const codes = (text: string) => [...text].map((character) => character.charCodeAt(0));
const textOf = (tokens: readonly number[]) => String.fromCharCode(...tokens.filter((token) => token !== 1));

/** A preference for each letter, the letter being the prompt; capital letters have an answer of 30 characters. */
const letterFile = (letters: string) => tempJsonl([...letters].map((letter) => ({
  prompt: letter, chosen: letter < "a" ? "y".repeat(30) : "yes", rejected: "no",
})));

const limits = { maxSeqLen: 20, maxPromptLen: 20, lossOn: "answer" } as const;
const allOf = <T>(samples: Samples<T>) => take(samples, Array.from({ length: samples.length }, (_, i) => i));

function prepareLetters(sources: readonly (string | DataSource)[], options: Partial<PrepareOptions<"sft">> = {}) {
  return prepareData(sources, "sft", { seed: 1234, encoder: demonstrationEncoder(encoder, limits), ...options });
}

/** First characters of the samples, which are the letters. */
const lettersOf = ({ train }: PreparedData<{ tokens: readonly number[] }>) => allOf(train).map(({ tokens }) => textOf(tokens)[0]).join("");

const transcripts = fileURLToPath(new URL("../fixtures/data/hh-transcripts.jsonl", import.meta.url));

describe("prepareData", () => {
  const many = (from: number, count: number) => Array.from({ length: count }, (_, i) => String.fromCharCode(0x4e00 + from + i)).join("");

  test.each<[string, (cache: PrepareOptions<Step>["cache"]) => Partial<PrepareOptions<Step>>]>([
    ["in memory", () => ({})],
    ["from the cache", (cache) => ({ cache })],
    ["from the cache again", (cache) => ({ cache })],
  ])("%s gives the samples of loadDataset and encode, bit for bit, in their order", async (_, optionsFor) => {
    const paths = [letterFile(`${many(0, 150)}ABC`), letterFile(many(200, 97)), transcripts];
    const cache = { folder: tempFolder(), encoder: "characters", note: () => {} };
    for (const split of [undefined, "2,4,4"]) {
      const options = { seed: 7, split, heldOutShare: 0.2 };
      const more = optionsFor(cache);
      const records = {
        sft: await loadDataset(paths, "sft", options), reward: await loadDataset(paths, "reward", options),
        ppo: await loadDataset(paths, "ppo", options),
      };
      const long = { maxSeqLen: 60, maxPromptLen: 60, lossOn: "answer" } as const;
      const sft = await prepareData(paths, "sft", { ...options, ...more, encoder: demonstrationEncoder(encoder, limits) });
      const reward = await prepareData(paths, "reward", { ...options, ...more, encoder: preferenceEncoder(encoder, long) });
      const ppo = await prepareData(paths, "ppo", { ...options, ...more, encoder: promptEncoder(encoder, long) });
      const expected = [
        (await encodeDemonstrations(records.sft.train, encoder, limits)).samples,
        (await encodeDemonstrations(records.sft.heldOut, encoder, limits)).samples,
        (await encodePreferences(records.reward.train, encoder, long)).samples,
        (await encodePrompts(records.ppo.train, encoder, long)).samples,
        (await encodePrompts(records.ppo.heldOut, encoder, long)).samples,
      ];
      expect([allOf(sft.train), sft.heldOut, allOf(reward.train), allOf(ppo.train), ppo.heldOut]).toEqual(expected);
      expect(sft.statistics.map(({ path, numLines, numRecords, skipped }) => ({ path, numLines, numRecords, skipped })))
        .toEqual(records.sft.statistics);
    }
  });

  test("reads the cache and no data once they are encoded", async () => {
    const path = letterFile("abc");
    const cache = { folder: tempFolder(), encoder: "characters", note: () => {} };
    await prepareLetters([path], { cache });
    const refuses: ConversationEncoder = { ...encoder, encodeConversation: () => Promise.reject(new Error("encoded again")) };
    expect(lettersOf(await prepareLetters([path], { cache, encoder: demonstrationEncoder(refuses, limits) }))).toBe("abc");
    const other = demonstrationEncoder(refuses, { ...limits, truncation: "left" });
    await expect(prepareLetters([path], { cache, encoder: other })).rejects.toThrow("encoded again");
    await expect(prepareLetters([{ path, format: "x" }], { cache, encoder: demonstrationEncoder(refuses, limits) })).rejects.toThrow();
  });

  test("keeps reading from a cache that is removed meanwhile", async () => {
    const cache = { folder: join(tempFolder(), "tokens"), encoder: "characters", note: () => {} };
    const data = await prepareLetters([letterFile("abc")], { cache });
    rmSync(cache.folder, { recursive: true });
    expect(lettersOf(data)).toBe("abc");
  });

  test("counts what is left out and what is shortened", async () => {
    const path = letterFile("aBcD");
    const dropped = await prepareLetters([path]);
    expect(dropped.statistics).toEqual([{
      path, numLines: 4, numRecords: 4, skipped: {}, dropped: { "longer than maxSeqLen 20": 2 }, numTruncated: 0,
    }]);
    const cut = await prepareLetters([path], { encoder: demonstrationEncoder(encoder, { ...limits, truncation: "right" }) });
    expect([lettersOf(cut), cut.statistics[0]?.numTruncated]).toEqual(["aBcD", 2]);
    const lines: string[] = [];
    reportData((line) => lines.push(line), "demonstrations", dropped);
    reportData((line) => lines.push(line), "demonstrations", cut);
    expect(lines).toEqual([
      "demonstrations: 2 to train on, 0 held out", "demonstrations: 2 left out: longer than maxSeqLen 20",
      "demonstrations: 4 to train on, 0 held out", "demonstrations: 2 too long, shortened",
    ]);
  });

  test("reads a folder as one source, in any formats", async () => {
    const folder = tempFolder();
    writeFileSync(`${folder}/1.csv`, "prompt,completion\na,x\nb,x\n");
    writeFileSync(`${folder}/2.json`, JSON.stringify([{ prompt: "c", completion: "x" }]));
    expect(lettersOf(await prepareLetters([folder]))).toBe("abc");
    // A third of the three lines of both files together.
    expect((await prepareLetters([folder], { split: "1,1,1" })).train.length).toBe(1);
  });

  test("gives sources with steps to these alone, whole, and shuffles again as DeepSpeed-Chat does", async () => {
    // Lines a to e and f to j: the shuffle of seed 1234 is 7 2 9 1 0 8 4 5 6 3, so hcjbaiefgd; then k, l and again the shuffle, of 12.
    const common = [letterFile("abcde"), letterFile("fghij")];
    const own: DataSource = { path: letterFile("kl"), steps: ["sft"] };
    const sft = lettersOf(await prepareLetters([own, ...common]));
    expect([...sft].toSorted().join("")).toBe("abcdefghijkl");
    expect(sft).toBe(Array.from(shuffleIndices(1234, 12), (i) => "hcjbaiefgdkl"[i]).join(""));
    const prompts = await prepareData([own, ...common], "ppo", { seed: 1234, encoder: promptEncoder(encoder, limits) });
    expect(lettersOf(prompts)).toBe("hcjbaiefgd");
    // With a split the common files are divided and the own one is not.
    expect((await prepareLetters([own, ...common], { split: "2,4,4" })).train.length).toBe(1 + 1 + 2);
    await expectConfigError(
      () => prepareData([own], "ppo", { seed: 1, encoder: promptEncoder(encoder, limits) }),
      /^ppo data: expected at least one record, found none \(no files were named\); /,
    );
  });

  test("draws sources in the proportions of their weights", async () => {
    const sources = [{ path: letterFile("abXY"), weight: 3 }, { path: letterFile("cdefghijkl"), weight: 1 }];
    const { train, sets, epochSize, statistics } = await prepareLetters(sources);
    expect([train.length, epochSize]).toEqual([12, 12]); // 12 * 3/4 and 12 * 1/4
    const lettersAt = (rows: Uint32Array) => take(train, Array.from(rows)).map(({ tokens }) => textOf(tokens)[0]).toSorted().join("");
    expect(sets?.map(({ count, rows }) => [count, lettersAt(rows)])).toEqual([[9, "ab"], [3, "cdefghijkl"]]);
    expect(statistics.map(({ drawn }) => drawn)).toEqual([{ numSamples: 2, perEpoch: 9 }, { numSamples: 10, perEpoch: 3 }]);
    const lines: string[] = [];
    reportData((line) => lines.push(line), "demonstrations", { train, sets, epochSize, statistics, heldOut: [] });
    expect(lines[1]).toMatch(/data\.jsonl: an epoch takes 9 from 2 \(4\.50 times each\)$/);
    await expectConfigError(() => prepareLetters([sources[0]!, letterFile("z")]), /^data: expected a weight for every source of step sft/);
    await expectConfigError(() => prepareLetters([{ path: letterFile("X"), weight: 1 }, sources[1]!]),
      /data\.jsonl: expected samples to draw with weight 1, found none left/);
  });

  test("refuses data of which nothing is left or short enough", async () => {
    await expectConfigError(() => prepareLetters([letterFile("XYZ")]), /^maxSeqLen 20: .* found 3, the shortest of 33 tokens; /);
    await expectConfigError(() => prepareLetters([letterFile("abc")], { split: "0,1,1" }), /^sft data: expected .* 3 lines\); add data/);
    await expectConfigError(() => prepareLetters([letterFile("abc")], { heldOutShare: 1, heldOutPaths: ["x"] }), /^held-out data: expec/);
    await expectConfigError(() => prepareLetters([tempFile("{}\n")]), /data\.jsonl:1: /);
  });
});
