import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { namedDataset, namedDatasets } from "../../../../src/data/sources/named/registry.ts";
import { recordReader } from "../../../../src/data/sources/source.ts";

/** What DeepSpeed-Chat's own classes gave for a record; null where they leave it out. Made by tests/external/original_data_strings.py. */
interface OriginalRecord {
  name: string;
  record: unknown;
  prompt: string | null;
  prompt_and_chosen: string | null;
  prompt_and_rejected: string | null;
}

const file = new URL("../../../fixtures/data/original-strings.json", import.meta.url);
const cases = (JSON.parse(readFileSync(file, "utf8")) as OriginalRecord[]).map((entry, i) => [`${entry.name} (${i})`, entry] as const);
const origin = { path: "data.jsonl", line: 1 };

describe("the data sets of DeepSpeed-Chat", () => {
  test("are all known", () => {
    const names = [...new Set(cases.map(([, { name }]) => name))];
    expect(names).toHaveLength(15); // the classes of raw_datasets.py, local/jsonfile apart
    expect(names.filter((name) => namedDataset(name)?.original === undefined)).toEqual([]);
  });

  test.each(cases)("have the original's strings as parity: %s", (_, { name, record, ...strings }) => {
    const read = recordReader({ path: name, format: "parity" })(record, origin);
    if (strings.prompt_and_chosen === null) {
      expect(read).toMatchObject({ kind: "skipped" });
      return;
    }
    const { prompt, prompt_and_chosen: chosen, prompt_and_rejected: rejected } = strings;
    const answer = (text: string | null) => text?.slice(prompt?.length);
    const expected = rejected === null
      ? { kind: "demonstration", prompt, answer: answer(chosen), trainedTurns: "last" }
      : { kind: "preference", prompt, chosen: answer(chosen), rejected: answer(rejected) };
    expect(read).toEqual({ ...expected, origin });
  });

  test.each(cases.filter(([, entry]) => entry.prompt_and_chosen !== null))("become messages with the same texts: %s", (_, entry) => {
    const read = recordReader({ path: entry.name })(entry.record, origin);
    if (!("prompt" in read) || typeof read.prompt === "string" || read.kind === "prompt") throw new Error(`found ${JSON.stringify(read)}`);
    const labels = { user: "Human:", assistant: "Assistant:", system: "" };
    // Blanks differ: the original has one between turns or a blank line, and keeps those of its texts.
    const words = (text: string) => text.split(/\s+/).filter((word) => word !== "");
    const before = read.prompt.map(({ role, content }) => `${labels[role]} ${content}`).join(" ");
    const text = (answer: string) => `${before} ${labels.assistant} ${answer}`;
    expect(words(text("answer" in read ? read.answer : read.chosen))).toEqual(words(entry.prompt_and_chosen ?? ""));
    if (read.kind === "preference") expect(words(text(read.rejected))).toEqual(words(entry.prompt_and_rejected ?? ""));
  });
});

describe("namedDataset", () => {
  test.each([
    ["Dahoas/rm-static", "Dahoas/rm-static"],
    ["rm-static", "Dahoas/rm-static"],
    ["dahoas/RM-static@main", "Dahoas/rm-static"],
    ["rm-static:test", "Dahoas/rm-static"],
    ["openai/gsm8k:main/train", "openai/gsm8k"],
    ["/sets/Dahoas/rm-static/", "Dahoas/rm-static"],
    ["mkqa-Japanese", "mkqa-Japanese"],
    ["rm-static.jsonl", undefined],
    ["./rm-static", undefined],
    ["other/rm-static", undefined],
    ["data.jsonl", undefined],
  ])("%s is %s", (path, id) => {
    expect(namedDataset(path)?.id).toBe(id);
  });

  test("has every id and every short name once", () => {
    const names = namedDatasets.flatMap(({ id }) => [...new Set([id, id.slice(id.indexOf("/") + 1)])]).map((name) => name.toLowerCase());
    expect(new Set(names).size).toBe(names.length);
  });
});
