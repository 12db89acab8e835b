import { describe, expect, test } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { expectedOf, fixtureNames, fixtureStrings, unpackFixture } from "./fixture-folders.ts";

test("there are at least 2,000 strings and 8 tokenizers", () => {
  expect(new Set(fixtureStrings).size).toBeGreaterThanOrEqual(2000);
  expect(fixtureNames).toEqual([
    "bert", "deepseek_v3", "gemma3", "gpt2", "gptoss", "llama2", "llama3", "minilm", "neox", "opt", "qwen2", "qwen3", "smollm2",
    "spm-bpe", "spm-gemma", "spm-llama", "spm-llama-legacy", "spm-unigram", "words",
  ]);
});

describe.each(fixtureNames)("%s", (name) => {
  const expected = expectedOf(name);

  test("encodes every string as Python does", async () => {
    const tokenizer = await Tokenizer.load(unpackFixture(name, temporaryFolder()));
    const found = await tokenizer.encodeBatch(fixtureStrings);
    expect(expected.ids.filter((row) => row !== null).length).toBeGreaterThan(1950);
    const isOther = (i: number) => expected.ids[i] !== null && JSON.stringify(found[i]) !== JSON.stringify(expected.ids[i]);
    expect(fixtureStrings.filter((_, i) => isOther(i))).toEqual([]);
    const around = await tokenizer.encodeBatch(fixtureStrings.slice(0, expected.surrounded?.length ?? 0), { addSpecialTokens: true });
    expect(around).toEqual(expected.surrounded ?? []);
  });

  test("decodes as Python does", async () => {
    const tokenizer = await Tokenizer.load(unpackFixture(name, temporaryFolder()));
    const decode = (skipSpecialTokens: boolean) => (_: unknown, i: number) =>
      tokenizer.decode(expected.ids[i] ?? [], { skipSpecialTokens });
    const texts = expected.texts.map(decode(true));
    expect(texts.filter((text, i) => expected.texts[i] !== null && text !== expected.texts[i])).toEqual([]);
    const whole = expected.textsWithSpecial ?? [];
    expect(whole.map(decode(false))).toEqual(whole);
  });

  test("gives the same ids when it is saved and loaded again", async () => {
    const folder = temporaryFolder();
    const first = await Tokenizer.load(unpackFixture(name, folder));
    await first.save(`${folder}/saved`);
    const second = await Tokenizer.load(`${folder}/saved`);
    const strings = fixtureStrings.slice(0, 500);
    expect(await second.encodeBatch(strings)).toEqual(await first.encodeBatch(strings));
    expect(second.sharesIdsWith(first) && first.sharesIdsWith(second)).toBe(true);
    for (const key of ["bosTokenId", "eosTokenId", "endOfTurnTokenId", "chatTemplate"] as const) expect(second[key]).toBe(first[key]);
  });
});
