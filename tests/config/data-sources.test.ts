import { describe, expect, test } from "vitest";
import { parseMappingFlag, withShape, withWeights } from "../../src/config/data-sources.ts";
import { numbers, sources } from "../../src/config/fields.ts";
import { fileLayers, flagLayer, resolve } from "../../src/config/resolve.ts";
import { readSettings } from "../../src/config/settings-file.ts";
import { resolveTrain } from "../../src/pipeline/resolve.ts";
import { settingsLayout } from "../../src/pipeline/config.ts";
import { expectConfigError } from "../data/expect-config-error.ts";
import { tempFile } from "../data/temp-file.ts";

const settings = { name: "demo", fields: { data: sources({ help: "h" }), weights: numbers({ above: 0, optional: true, help: "h" }) } };
const resolved = (values: Record<string, unknown>) => resolve(settings, [flagLayer(values)]);

describe("sources", () => {
  test("are paths in a flag, and paths or objects in a file", async () => {
    expect(resolved({ data: ["a.jsonl", "b"] }).data).toEqual(["a.jsonl", "b"]);
    const path = tempFile(`
model: m
output: runs/x
data:
  - a.jsonl
  - { path: b.parquet, weight: 0.5, steps: [sft], fields: { prompt: question } }
`, "train.yaml");
    const file = await readSettings(path, settingsLayout);
    const expected = ["a.jsonl", { path: "b.parquet", weight: 0.5, steps: ["sft"], fields: { prompt: "question" } }];
    expect(resolve({ ...settings, fields: { data: settings.fields.data } }, fileLayers(file, "demo")).data).toEqual(expected);
    await expectConfigError(() => resolved({ data: [] }), /^--data: expected one or more files, folders or sources, got \[\]$/);
  });

  test.each<[unknown, string]>([
    [["a", ""], 'entry 2: expected a file, a folder, or a source with a path, got ""'],
    [["a", 3], "entry 2: expected a file, a folder, or a source with a path, got 3"],
    [{ path: "a", weigth: 1 }, 'entry 1: unknown key "weigth"; did you mean weight?'],
    [[{ weight: 1 }], "entry 1: path: expected a file or folder, got nothing"],
    [[{ path: "a", weight: 0 }], "entry 1: weight: expected a number above 0, got 0"],
    [[{ path: "a", steps: ["sfr"] }], 'entry 1: steps: expected a list of sft, reward, dpo, ppo, got ["sfr"]'],
    [[{ path: "a", fields: { a: 1 } }], 'entry 1: fields: expected names of fields, each with its place in the record, got {"a":1}'],
  ])("%j is refused, saying which entry and key", async (data, message) => {
    const error = await Promise.resolve().then(() => resolved({ data })).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: "ConfigError", code: "E_CONFIG", message: `--data: ${message}` });
  });
});

describe("weights", () => {
  test("are read as several values or with commas", async () => {
    expect(resolved({ data: "a", weights: ["0.7", "3e-1"] }).weights).toEqual([0.7, 0.3]);
    expect(resolved({ data: "a", weights: ["0.7,0.3"] }).weights).toEqual([0.7, 0.3]);
    const expected = "^--weights: expected one or more numbers, each above 0, got";
    await expectConfigError(() => resolved({ data: "a", weights: ["1", "x"] }), new RegExp(`${expected} \\[1,"x"\\]$`));
    await expectConfigError(() => resolved({ data: "a", weights: ["0"] }), new RegExp(`${expected} \\[0\\]$`));
  });

  test("go to the sources in their order, one for each", async () => {
    expect(withWeights(["a", { path: "b", steps: ["sft"] }], [7, 3]))
      .toEqual([{ path: "a", weight: 7 }, { path: "b", steps: ["sft"], weight: 3 }]);
    expect(withWeights(["a"], undefined)).toEqual(["a"]);
    await expectConfigError(() => withWeights(["a", "b"], [1]),
      /^--data-weights: expected a weight for each of the 2 sources of --data, got 1$/);
    await expectConfigError(() => withWeights([{ path: "b", weight: 1 }], [1]),
      /^--data-weights: b has a weight in the settings file \(1\); /);
  });

  test("are checked before anything is loaded", async () => {
    const flags = { model: "m", output: "o", data: ["a", "b"], dataWeights: ["1"], step: ["sft"] };
    await expectConfigError(() => resolveTrain({ flags, file: undefined }), /^--data-weights: expected a weight for each of the 2 sources/);
  });
});

describe("parseMappingFlag", () => {
  test.each<[string, Record<string, string>]>([
    ["prompt=question,chosen=a.text", { prompt: "question", chosen: "a.text" }],
    ["prompt=Add {a}, {b}, completion={c}", { prompt: "Add {a}, {b}", completion: "{c}" }],
    ['answer_a=a,answer_b=b,a_wins=winner = "x"', { answer_a: "a", answer_b: "b", a_wins: 'winner = "x"' }],
    ["messages=talk,roles.bot=assistant,message.role=who", { messages: "talk", "roles.bot": "assistant", "message.role": "who" }],
    ["system==Be brief.,prompt=q", { system: "=Be brief.", prompt: "q" }],
  ])("%s", (text, expected) => {
    expect(parseMappingFlag(text)).toEqual(expected);
  });

  test("refuses a part without =", async () => {
    await expectConfigError(() => parseMappingFlag("question"),
      /^--data-fields: expected name=path, found "question"; write for example prompt=question/);
  });
});

describe("withShape", () => {
  test("gives the flags to sources that say nothing themselves", () => {
    const own = { path: "b", fields: { prompt: "q" } };
    expect(withShape(["a", own, { path: "c", weight: 2 }], { dataFormat: "gsm8k" }))
      .toEqual([{ path: "a", format: "gsm8k" }, own, { path: "c", weight: 2, format: "gsm8k" }]);
    expect(withShape(["a"], { dataFields: "prompt=q" })).toEqual([{ path: "a", fields: { prompt: "q" } }]);
    expect(withShape(["a", own], {})).toEqual(["a", own]);
  });

  test("refuses both flags together", async () => {
    await expectConfigError(() => withShape(["a"], { dataFormat: "gsm8k", dataFields: "prompt=q" }),
      /^--data-fields: not beside --data-format/);
  });
});
