import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { chooseDataFiles, dataFilesOf, isConverted } from "../../src/hub/dataset-files.ts";
import { filesMatching, splitsOfNames } from "../../src/hub/splits.ts";
import { failure } from "../failure.ts";

interface SplitCase {
  readonly files: readonly string[];
  readonly splits: Readonly<Record<string, readonly string[]>>;
}

/** Made by Hugging Face's own `datasets` (tests/external/dataset_splits.py). */
const cases = JSON.parse(readFileSync(new URL("../fixtures/hub/splits.json", import.meta.url), "utf8")) as SplitCase[];

describe("splitsOfNames", () => {
  test.each(cases.map((one) => [one.files.join(" "), one] as const))("agrees with datasets on %s", (_, { files, splits }) => {
    const found = [...splitsOfNames(dataFilesOf(files))].map(([split, some]) => [split, [...some].sort()]);
    expect(Object.fromEntries(found)).toEqual(splits);
  });
});

test("filesMatching knows globs, files and folders", () => {
  const files = ["a.csv", "data/a.csv", "data/b.csv", "data/deep/c.csv", "data/part-1.csv", "data/part-2.csv", "a+b/x.csv"];
  expect(filesMatching(files, "*.csv")).toEqual(["a.csv"]);
  expect(filesMatching(files, "**/*.csv")).toEqual(files);
  expect(filesMatching(files, "data/*")).toEqual(["data/a.csv", "data/b.csv", "data/part-1.csv", "data/part-2.csv"]);
  expect(filesMatching(files, "data/part-[!1].csv")).toEqual(["data/part-2.csv"]);
  expect(filesMatching(files, "data/?.csv")).toEqual(["data/a.csv", "data/b.csv"]);
  expect(filesMatching(files, "./data/deep/")).toEqual(["data/deep/c.csv"]);
  expect(filesMatching(files, "a+b/x.csv")).toEqual(["a+b/x.csv"]);
});

describe("chooseDataFiles", () => {
  const choose = (names: readonly string[], selector?: string, card?: string) => chooseDataFiles("org/set", names, { selector, card });
  const twoSplits = ["data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"];
  const card = [
    "---", "license: mit", "configs:",
    "- config_name: main", "  data_files:", "  - split: train", "    path: main/train-*", "  - split: test", "    path: main/test-*",
    "- config_name: socratic", "  data_files:", "  - split: train", "    path: [socratic/a.jsonl, socratic/b.jsonl]",
    "- config_name: plain", "  data_dir: plain", "---", "# A set",
  ].join("\n");
  const configured = [
    "main/train-0.parquet", "main/test-0.parquet", "socratic/a.jsonl", "socratic/b.jsonl", "plain/train.csv", "plain/dev.csv",
  ];

  test("takes train where nothing is selected, and the split that is", () => {
    expect(choose(twoSplits)).toEqual([twoSplits[0]]);
    expect(choose(twoSplits, "test")).toEqual([twoSplits[1]]);
  });

  test("follows the configurations of the card", () => {
    expect(choose(configured, "main/test", card)).toEqual(["main/test-0.parquet"]);
    expect(choose(configured, "socratic", card)).toEqual(["socratic/a.jsonl", "socratic/b.jsonl"]);
    expect(choose(configured, "plain/validation", card)).toEqual(["plain/dev.csv"]);
    expect(choose(configured, undefined, card.replace("config_name: main", "config_name: main\n  default: true"))).toEqual([configured[0]]);
    expect(choose(configured, "test", card.replace("config_name: main", "config_name: main\n  default: true"))).toEqual([configured[1]]);
  });

  test("takes a file or a folder by its name", () => {
    const files = ["helpful/train.jsonl.gz", "helpful/test.jsonl.gz", "harmless/train.jsonl.gz", "harmless/test.jsonl.gz"];
    expect(choose(files)).toEqual([files[0], files[2]]);
    expect(choose(files, "harmless")).toEqual([files[2]]);
    expect(choose(files, "harmless/test")).toEqual([files[3]]);
    expect(choose(files, "harmless/test.jsonl.gz")).toEqual([files[3]]);
  });

  test("takes one format where the same records lie there in two", () => {
    expect(choose(["train.csv", "train.jsonl", "train.parquet"])).toEqual(["train.parquet"]);
    expect(choose(["a.jsonl", "b.jsonl", "c.csv"])).toEqual(["a.jsonl", "b.jsonl"]);
    expect(choose(["train.jsonl", "dataset_infos.json", "config.json", "README.md", ".x/train.json"])).toEqual(["train.jsonl"]);
  });

  test("knows the hub's Parquet conversion", () => {
    const converted = ["default/train/0000.parquet", "default/train/0001.parquet", "default/partial-test/0000.parquet"];
    expect(isConverted(converted)).toBe(true);
    expect(isConverted([...converted, "x.csv"])).toBe(false);
    expect(choose(converted)).toEqual(converted.slice(0, 2));
    expect(choose(converted, "test")).toEqual([converted[2]]);
    expect(choose(["en/train/0000.parquet", "de/train/0000.parquet"], "de/train")).toEqual(["de/train/0000.parquet"]);
  });

  test.each([
    ["a split that is not there", twoSplits, "dev", undefined, "org/set: has no dev; there are org/set:train, org/set:test"],
    ["no train", ["test.csv"], undefined, undefined, "org/set: has no split train; there are org/set:test"],
    ["several configurations", configured, undefined, card,
      "org/set: has several configurations; name one: there are org/set:main/train, " +
      "org/set:main/test, org/set:socratic/train, org/set:plain/train, org/set:plain/validation"],
    ["no data", ["a.zip", "README.md"], "train", undefined, "org/set: has no train; it has no data files that can be read"],
    ["a damaged card", ["a.csv"], undefined, "---\nx: [\n---\n",
      "org/set: the header of its README.md is not valid YAML; name a file of it: org/set:a.csv"],
  ])("refuses %s", (_, names, selector, text, message) => {
    expect(failure(() => choose(names, selector, text))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });
});
