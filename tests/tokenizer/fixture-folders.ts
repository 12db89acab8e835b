import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

/** Strings, tokenizers, and what Python makes of the one with the other: written by tests/external/tokenizer_fixtures.py. */
const FIXTURES = fileURLToPath(new URL("../fixtures/tokenizers", import.meta.url));

/** What Python says of the strings; null where its answer does not count. */
export interface Expected {
  /** Of all strings, without special tokens around them. */
  ids: (number[] | null)[];
  /** Of the first strings, with special tokens around them. */
  surrounded?: number[][];
  /** The first rows of `ids` decoded, without special tokens. */
  texts: (string | null)[];
  /** The same with special tokens. */
  textsWithSpecial?: string[];
}

function readJson(...names: string[]): unknown {
  return JSON.parse(gunzipSync(readFileSync(join(FIXTURES, ...names))).toString("utf8"));
}

/** The names of the tokenizers. */
export const fixtureNames = readdirSync(FIXTURES, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);

/** 2,048 of them: sentences in many writing systems, code, odd spaces, controls, special tokens. */
export const fixtureStrings = readJson("strings.json.gz") as string[];

/** What Python says. */
export function expectedOf(name: string): Expected {
  return readJson(name, "expected.json.gz") as Expected;
}

/** Writes the files of a tokenizer into the folder `target`. */
export function unpackFixture(name: string, target: string): string {
  mkdirSync(target, { recursive: true });
  for (const file of readdirSync(join(FIXTURES, name))) {
    const plain = file.replace(/\.gz$/, "");
    if (plain !== "expected.json") writeFileSync(join(target, plain), gunzipSync(readFileSync(join(FIXTURES, name, file))));
  }
  return target;
}
