import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, test } from "vitest";
import { previewFields } from "../../src/cli/data-config.ts";
import { histogram, percent } from "../../src/cli/data-lengths.ts";
import { preview } from "../../src/cli/data-preview.ts";
import { widthOf } from "../../src/cli/terminal-text.ts";
import { completeConfig } from "../../src/config/resolve.ts";
import { expectConfigError } from "../data/expect-config-error.ts";
import { CHATML_FOLDER } from "../tokenizer/fixture.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { KeptOutput } from "./text-output.ts";

type Given = Parameters<typeof completeConfig<typeof previewFields>>[1];

const pairs = Array.from({ length: 200 },
  (_, i) => ({ prompt: `What is ${i}?`, chosen: "yes ".repeat(i % 20 + 1).trim(), rejected: "no" }));

async function show(records: readonly unknown[], given: Given = {}, output = new KeptOutput()): Promise<string> {
  const file = join(temporaryFolder(), "data.jsonl");
  writeFileSync(file, records.map((record) => `${JSON.stringify(record)}\n`).join(""));
  expect(await preview(completeConfig({ name: "data preview", fields: previewFields }, { data: [file], ...given }), output)).toBe(0);
  return output.text.replaceAll(file, "data.jsonl");
}

const row = (name: string, text: string) => new RegExp(`${name} +(.*)`).exec(text)?.[1]?.match(/\d[\d,]*/g);

describe("tschat data preview", () => {
  test("counts what each step gets, held-out records apart", async () => {
    const text = await show([...pairs, { chosen: "\n\nHuman: a\n\nAssistant:", rejected: "\n\nHuman: a\n\nAssistant: b" }],
      { evalSize: 10 });
    // records, skipped, refused, held out, to train on
    for (const step of ["sft", "reward", "ppo"]) expect(row(step, text)).toEqual(["201", "1", "0", "10", "190"]);
    expect(text).toMatch(/1 {2}skipped: an answer is empty/);
  });

  test("divides the records by the split as training does", async () => {
    // Bounds of 200 records for 2,4,4: 0, 40, 120, 200.
    const text = await show(pairs, { dataSplit: "2,4,4", evalSize: 5 });
    expect(["sft", "reward", "ppo"].map((step) => row(step, text)?.at(-1))).toEqual(["35", "75", "75"]);
  });

  test("takes what is held out from --eval-data", async () => {
    const evalData = join(temporaryFolder(), "eval.jsonl");
    writeFileSync(evalData, '{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "d"}\n');
    const text = await show(pairs, { evalData });
    expect(row("reward", text)).toEqual(["200", "0", "0", "1", "200"]);
    expect(row("ppo", text)).toEqual(["200", "0", "0", "2", "200"]);
  });

  test("says which steps would stop, and at what", async () => {
    const text = await show([{ prompt: "a", completion: "b" }, { prompt: 4 }]);
    expect(text).toMatch(/1 {2}refused: field "prompt": expected text, found a number\s+first: data\.jsonl:2/);
    expect(text).toContain("sft would stop at the 1 refused; it needs an answer to imitate");
    expect(text).toContain("reward cannot use this data: a chosen and a rejected answer");
  });

  test("shows records and characters without a model", async () => {
    const text = await show([{ system: "Be brief.", prompt: "Hi\nthere", completion: "Hello" }]);
    expect(text).toContain("Lengths in characters (--model counts tokens)");
    expect(text).toContain("data.jsonl:1  demonstration\n  system    Be brief.\n  user      Hi\n            there\n  assistant Hello\n");
  });

  test("marks what is learned with characters where there are no colours", async () => {
    const text = await show([{ messages: [
      { role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }, { role: "user", content: "Bye" },
        { role: "assistant", content: "Goodbye" },
    ] }], { model: CHATML_FOLDER });
    expect(text).toContain("<|im_start|>user\n  Hi<|im_end|>\n  <|im_start|>assistant\n  {+Hello<|im_end|>+}\n");
    expect(text).toContain("{+Goodbye<|im_end|>+}\n");
    expect(text.match(/\{\+/g)).toHaveLength(3); // the legend, and both answers
  });

  test("colours what is learned on a terminal", async () => {
    const text = await show([{ prompt: "Hi", completion: "Hello" }], { model: CHATML_FOLDER },
      new KeptOutput({ columns: 80, hasColors: true }));
    expect(text).toContain("\u001b[32mHello<|im_end|>\u001b[39m");
    expect(text).toContain("green is learned");
    expect(text).not.toContain("{+");
  });

  test("shows both answers of a pair to one prompt", async () => {
    const text = await show([{ prompt: "Hi", chosen: "Hello", rejected: "Go" }], { model: CHATML_FOLDER, step: "reward" });
    expect(text).toMatch(/data\.jsonl:1 {2}\d+ tokens of prompt\n[\s\S]*Hi<\|im_end\|>/);
    const answers = text.slice(text.indexOf("-- chosen")).replace(/\d+/g, "n");
    expect(answers).toBe("-- chosen, n tokens\n  {+Hello<|im_end|>+}\n  -- rejected, n tokens\n  {+Go<|im_end|>+}\n\n");
  });

  test("ends a prompt for PPO where the answer begins", async () => {
    const text = await show([{ prompt: "Hi" }], { model: CHATML_FOLDER, step: "ppo" });
    expect(text).toMatch(/Hi<\|im_end\|>\n {2}<\|im_start\|>assistant\n\n$/);
  });

  test("says what share is longer than the limit", async () => {
    const text = await show([...pairs.slice(0, 3), { prompt: "word ".repeat(500), chosen: "a", rejected: "b" }],
      { model: CHATML_FOLDER, maxSeqLen: 300, maxPromptLen: 300 });
    // One of four for each step.
    expect(text.match(/25\.0% longer than --max-seq-len 300/g)).toHaveLength(2);
    expect(text.match(/25\.0% longer than --max-prompt-len 300/g)).toHaveLength(1);
  });

  test.each([80, 200])("fits into %i columns, wide characters too", async (columns) => {
    const records = [...pairs, { prompt: "\u4f60\u597d\u4e16\u754c ".repeat(60), chosen: "\u{1f600}".repeat(150),
      rejected: "x".repeat(500) }];
    for (const step of ["sft", "reward", "ppo"] as const) {
      const text = await show(records.reverse(), { model: CHATML_FOLDER, step, limit: 2 }, new KeptOutput({ columns, hasColors: true }));
      const lines = stripVTControlCharacters(text).split("\n");
      expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(columns);
    }
  });

  test("refuses a step that no record serves, and two sources of held-out data", async () => {
    await expectConfigError(() => show([{ prompt: "Hi" }], { step: "sft" }),
      /^--step sft: expected records that sft can use, found none; leave --step out$/);
    await expectConfigError(() => show(pairs, { evalData: "a.jsonl", evalSize: 3 }), /^--eval-size: not beside --eval-data/);
  });
});

describe("histogram", () => {
  const look = { columns: 80, paint: (style: string, text: string) => (style === "red" ? `!${text}` : text) };

  test("counts every length once, those beyond the limit in red", () => {
    // Eight bins of 2 up to the limit of 16, one for 16 and 17, and one for the rest.
    const lines = histogram([0, 1, 2, 3, 15, 16, 17, 17, 17, 40], { ...look, limit: 16 });
    expect(lines).toHaveLength(10);
    expect(lines[0]).toMatch(/ 0 - 1 {2}\u2588+.? 20\.0%$/);
    expect(lines[7]).toMatch(/ 14 - 15 {2}\u2588+.? 10\.0%$/);
    expect(lines[8]).toMatch(/ 16 - 17 {2}!\u2588+ 40\.0%$/);
    expect(lines[9]).toMatch(/18 and more {2}!\u2588+.? 10\.0%$/);
    // With bins of 1 the limit has its own, where everything fits.
    expect(histogram([7, 8, 9], { ...look, limit: 8 }).map((line) => line.includes("!"))).toEqual([...new Array(9).fill(false), true]);
  });

  test("keeps its bins where one record is very long", () => {
    const lines = histogram([...Array.from({ length: 99 }, (_, i) => i), 100_000], look);
    expect(lines.length).toBeLessThanOrEqual(12);
    expect(lines.at(-1)).toMatch(/and more .*1\.0%|and more .*2\.0%/);
  });

  test("gives nothing for nothing, and one bin for equal lengths", () => {
    expect(histogram([], look)).toEqual([]);
    expect(histogram([0, 0], look)[0]).toMatch(/^ {2}0 {2}\u2588+ 100\.0%$/);
  });

  test("percent", () => {
    expect(percent(1, 8)).toBe("12.5%");
  });
});
