import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { hubNameOf, sourceFiles } from "../../../src/data/sources/locate.ts";
import { ConfigError } from "../../../src/errors.ts";
import { temporaryFolder } from "../../temporary-folder.ts";

test.each([
  // A data set's own name, with the split that it trains or is evaluated on.
  ["rm-static", "train", "Dahoas/rm-static:train"],
  ["Dahoas/rm-static", "eval", "Dahoas/rm-static:test"],
  ["openai/gsm8k", "train", "openai/gsm8k:main/train"],
  ["openai/gsm8k@5f2c", "eval", "openai/gsm8k@5f2c:main/test"],
  // What is said wins.
  ["Dahoas/rm-static:test", "train", "Dahoas/rm-static:test"],
  // A set without a split of its own to evaluate on, and one whose repository is called otherwise.
  ["stanfordnlp/SHP@abc:validation", "train", "stanfordnlp/SHP@abc:validation"],
  ["mkqa-Chinese", "train", "mkqa:train"],
  ["someone/unknown", "eval", "someone/unknown"],
  // Paths.
  ["./rm-static", "train", undefined],
  ["a/b/c", "train", undefined],
  ["pairs.jsonl", "train", undefined],
] as const)("%s to %s is %s on the hub", (path, part, expected) => {
  expect(hubNameOf(path, part)).toBe(expected);
});

test("what exists is a path, also where it has the name of a known data set", () => {
  const folder = join(temporaryFolder(), "rm-static");
  mkdirSync(folder);
  expect(hubNameOf(folder)).toBeUndefined();
});

test("a name that the cache does not hold says how to get it when the hub is off", async () => {
  await expect(sourceFiles("rm-static")).rejects.toThrow(ConfigError);
  await expect(sourceFiles("rm-static")).rejects.toThrow(/Dahoas\/rm-static/);
  await expect(sourceFiles("none.jsonl")).rejects.toThrow(/none\.jsonl: expected a data file or a folder of them, found nothing/);
});
