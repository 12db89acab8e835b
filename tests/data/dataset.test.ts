import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { type DatasetOptions, loadDataset } from "../../src/data/dataset.ts";
import { expectConfigError } from "./expect-config-error.ts";
import { tempJsonl } from "./temp-file.ts";

const transcripts = fileURLToPath(new URL("../fixtures/data/hh-transcripts.jsonl", import.meta.url));

/** A file with one preference for each letter; the letter is the question. */
const letterFile = (letters: string) => tempJsonl([...letters].map((letter) => ({ prompt: letter, chosen: "yes", rejected: "no" })));

/** The letters that `step` trains on, and those it evaluates on. */
async function loadLetters(paths: string[], step: "sft" | "reward" | "dpo" | "ppo", options: DatasetOptions): Promise<[string, string]> {
  const { train, heldOut } = await loadDataset(paths, step, options);
  const letter = ({ prompt: [first] }: (typeof train)[number]) => (typeof first === "object" ? first.content : "?");
  const letters = (records: typeof train) => records.map(letter).join("");
  return [letters(train), letters(heldOut)];
}

describe("loadDataset", () => {
  test("gives every step the whole file in its order", async () => {
    const path = letterFile("abcdefghij");
    for (const step of ["sft", "reward", "dpo", "ppo"] as const) {
      expect(await loadLetters([path], step, { seed: 1234 })).toEqual(["abcdefghij", ""]);
    }
  });

  test("divides a file among the steps when a split is asked for", async () => {
    // The shuffle of seed 1234: 7 2 | 9 1 0 8 | 4 5 6 3
    const path = letterFile("abcdefghij");
    const options = { seed: 1234, split: "2,4,4" };
    expect(await loadLetters([path], "sft", options)).toEqual(["hc", ""]);
    expect(await loadLetters([path], "reward", options)).toEqual(["jbai", ""]);
    expect(await loadLetters([path], "dpo", options)).toEqual(["jbai", ""]);
    expect(await loadLetters([path], "ppo", options)).toEqual(["efgd", ""]);
  });

  test("puts several files together and shuffles them with the seed", async () => {
    // a to e, then f to j, in the order 7 2 9 1 0 8 4 5 6 3
    expect(await loadLetters([letterFile("abcde"), letterFile("fghij")], "ppo", { seed: 1234 })).toEqual(["hcjbaiefgd", ""]);
  });

  test("holds out the same records in every step", async () => {
    // The first three of the shuffle: h, c, j.
    for (const step of ["sft", "reward", "ppo"] as const) {
      expect(await loadLetters([letterFile("abcdefghij")], step, { seed: 1234, heldOutShare: 3 })).toEqual(["abdefgi", "chj"]);
    }
  });

  test("evaluates on other files, to which the split applies too", async () => {
    const paths = { heldOutPaths: [letterFile("klmnopqrst")] };
    expect(await loadLetters([letterFile("abc")], "reward", { seed: 1234, ...paths })).toEqual(["abc", "klmnopqrst"]);
    expect((await loadLetters([letterFile("abcdefghij")], "reward", { seed: 1234, split: "2,4,4", ...paths }))[1]).toEqual("tlks");
  });

  test("reads transcripts, counts what it skips and says why", async () => {
    const { train, statistics } = await loadDataset([transcripts], "reward", { seed: 1 });
    expect(train.map(({ origin, chosen, rejected }) => [origin.line, chosen, rejected])).toEqual([
      [1, "Paris.", "Lyon, I think."], [2, "A pear. \n\nIt is green.", "No"], [6, "Gladly", "Why?"],
    ]);
    expect(train[1]?.prompt).toMatchObject([{ role: "user" }, { role: "assistant" }, { role: "user" }]);
    expect(statistics).toEqual([{
      path: transcripts,
      numLines: 6,
      numRecords: 3,
      skipped: { "the two conversations differ in more than the last answer": 2, "an answer is empty": 1 },
    }]);
  });

  test("splits by lines, so a skipped line takes its place in the share", async () => {
    // shuffleIndices(1234, 6) divided 1,0,0 is the whole shuffled file: all six lines, three of them skipped.
    const { train, statistics } = await loadDataset([transcripts], "sft", { seed: 1234, split: "1,0,0" });
    expect(train.map((record) => record.origin.line).toSorted()).toEqual([1, 2, 6]);
    expect(statistics[0]).toMatchObject({ numLines: 6, numRecords: 3 });
  });

  test("names file and line of a record that the step cannot use", async () => {
    const path = tempJsonl([{ prompt: "a", chosen: "b", rejected: "c" }, { prompt: "a", completion: "b" }]);
    expect(await loadLetters([path], "sft", { seed: 1 })).toEqual(["aa", ""]);
    await expectConfigError(
      () => loadDataset([path], "reward", { seed: 1 }),
      /data\.jsonl:2: field "rejected": expected an answer that was not preferred/,
    );
  });

  test("refuses data of which nothing is left, saying why", async () => {
    const path = tempJsonl([{ chosen: "\n\nHuman: a\n\nAssistant:", rejected: "\n\nHuman: a\n\nAssistant: b" }]);
    await expectConfigError(
      () => loadDataset([path], "sft", { seed: 1 }),
      /^sft data: expected .*data\.jsonl: 1 lines, 1 skipped: an answer is empty\); /,
    );
    await expectConfigError(
      () => loadDataset([letterFile("abc")], "ppo", { seed: 1, split: "1,0,0" }),
      /^ppo data: .*data\.jsonl: 3 lines\); /,
    );
    await expectConfigError(
      () => loadDataset([], "ppo", { seed: 1 }),
      /^ppo data: expected at least one record, found none \(no files were named\); /,
    );
  });

  test("refuses two answers to what is held out", async () => {
    const paths = [letterFile("abc")];
    await expectConfigError(
      () => loadDataset(paths, "ppo", { seed: 1, heldOutPaths: paths, heldOutShare: 1 }),
      /^held-out data: expected either .*, found both; /,
    );
  });
});
