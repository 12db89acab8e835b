import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { validateFields } from "../../src/cli/data-config.ts";
import { validate } from "../../src/cli/data-validate.ts";
import { completeConfig } from "../../src/config/resolve.ts";
import { expectConfigError } from "../data/expect-config-error.ts";
import { CHATML_FOLDER } from "../tokenizer/fixture.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { KeptOutput } from "./text-output.ts";

type Given = Parameters<typeof completeConfig<typeof validateFields>>[1];


async function run(files: Readonly<Record<string, string | Uint8Array>>, given: Given = {}) {
  const folder = temporaryFolder();
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const report = given.report ?? join(folder, "report.jsonl");
  const data = (given.data ?? [Object.keys(files)[0] ?? ""]).map((name) => join(folder, String(name)));
  const evalData = given.evalData === undefined ? {} : { evalData: join(folder, given.evalData) };
  const output = new KeptOutput();
  const code = await validate(completeConfig({ name: "data validate", fields: validateFields }, { ...given, report, data, ...evalData }),
    output);
  const found = readFileSync(report, "utf8").split("\n").filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { file: string; line?: number; field?: string; reason: string });
  return { code, folder, text: output.text.replaceAll(`${folder}/`, ""), found };
}

const jsonl = (...records: unknown[]) => records.map((record) => `${JSON.stringify(record)}\n`).join("");
const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown) => ({ role: "assistant", content });
const good = { prompt: "2 + 2?", chosen: "4", rejected: "5" };

describe("a bad record", () => {
  const talk = (...messages: unknown[]) => ({ messages });
  test.each<[string, string, string | undefined, RegExp]>([
    ["half a line", '{"prompt": "a", "chosen":', undefined,
      /^expected one JSON object on the line, found: .+; write each record on a line/],
    ["a Python literal", "{'prompt': 'a'}", undefined, /^expected one JSON object on the line, found: .+; write each record on a line/],
    ["bytes that are no UTF-8", "\u0000latin1", undefined, /^expected UTF-8 text, found other bytes; convert the file to UTF-8$/],
    ["a list", '["a", "b"]', undefined, /^expected one JSON object, found a list; write one record per line \(JSONL\)$/],
    ["text", '"a"', undefined, /^expected one JSON object, found text; write one record per line/],
    ["null", "null", undefined, /^expected one JSON object, found nothing; write one record per line/],
    ["no fields", "{}", undefined, /^expected a known record shape, found no fields; write "prompt" with/],
    ["unknown fields", jsonl({ question: "a", answer: "b" }), undefined,
      /found the fields "question", "answer"; .* --data-fields prompt=question,/],
    ["half a pair", jsonl({ prompt: "a", rejected: "b" }), "chosen", /^expected the preferred answer, found nothing; add it$/],
    ["a blank prompt", jsonl({ prompt: " \n", completion: "b" }), "prompt",
      /^expected text, found blank text; write it or remove the record$/],
    ["an empty answer", jsonl({ prompt: "a", chosen: "b", rejected: "" }), "rejected",
      /^expected text, found blank text; write it or remove/],
    ["a number as answer", jsonl({ prompt: "a", completion: 4 }), "completion",
      /^expected text, found a number; write it or remove the record$/],
    ["equal answers", jsonl({ prompt: "a", chosen: "b", rejected: "b" }), "rejected",
      /^expected another answer than the chosen one, found the same; remove/],
    ["no messages", jsonl(talk()), "messages", /^expected a list of messages, found an empty list; write \[\{"role": "user"/],
    ["a message that is text", jsonl(talk("a")), "messages[0]", /^expected an object, found text; write one object per message$/],
    ["an unknown role", jsonl(talk(user("a"), { role: "bot", content: "b" })), "messages[1].role",
      /^expected one of system, user, assistant, found "bot"; correct it, remove the record, or map it/],
    ["no role", jsonl(talk({ content: "a" })), "messages[0].role", /^expected one of system, user, assistant, found nothing; correct it/],
    ["no content", jsonl(talk({ role: "user" })), "messages[0].content", /^expected text, found nothing; write it or remove the record$/],
    ["an image", jsonl(talk(user([{ type: "image_url" }]))), "messages[0].content[0]",
      /^expected a part with "type": "text", found one with "type": "image_url"; /],
    ["an answer without question", jsonl(talk(assistant("a"))), "messages",
      /^expected an end with a user message, .*, found an end with roles assistant; /],
    ["two questions in turn", jsonl(talk(user("a"), user("b"), assistant("c"))), "prompt",
      /^expected user and assistant in turn .*, found role "user" in message 2; put the messages in order .* \(roles: user, user\)$/],
    ["a system message in the middle", jsonl(talk(user("a"), assistant("b"), { role: "system", content: "c" }, user("d"), assistant("e"))),
      "prompt",
      /, found role "system" in message 3; /],
    ["a speaker that is unknown", jsonl({ conversations: [{ from: "bot", value: "a" }] }), "conversations[0].from",
      /^expected one of system, user, assistant, human, gpt, found "bot"; /],
    ["a prompt with its answer", jsonl({ prompt: [user("a"), assistant("b")] }), "prompt",
      /^expected the last message to be the user's, found one with role "assistant"; move the answer into its own field$/],
    ["an answer of two turns", jsonl({ prompt: "a", completion: [assistant("b"), user("c")] }), "completion",
      /^expected one assistant message, .*, found messages with roles assistant, user; put every message before the answer into "prompt"$/],
    ["plain answers without prompt", jsonl({ chosen: "a", rejected: "b" }), "chosen",
      /^expected a whole conversation .*, found text; or put the question into/],
    ["a system message of a list", jsonl({ system: [], prompt: "a" }), "system",
      /^expected text, found a list; write it or remove the record$/],
    ["an Alpaca record without text", jsonl({ instruction: "a", output: " " }), "output",
      /^expected text, found blank text; write it or remove/],
  ])("is listed with file, line, field and reason: %s", async (_, line, field, reason) => {
    const content = Buffer.from(line.startsWith("\u0000") ? "" : line.endsWith("\n") ? line : `${line}\n`);
    const bad = line.startsWith("\u0000") ? Buffer.from([0x22, 0xe9, 0x22, 0x0a]) : content;
    // Between good ones: reading goes on.
    const lines = Buffer.concat([Buffer.from(jsonl(good)), bad, Buffer.from(jsonl({ ...good, prompt: "?" }))]);
    const { code, found, folder, text } = await run({ "a.jsonl": lines });
    expect(code).toBe(1);
    expect(found).toEqual([{ file: join(folder, "a.jsonl"), line: 2, ...(field === undefined ? {} : { field }),
      reason: expect.stringMatching(reason) }]);
    expect(text).toContain("3 records: 1 bad");
    expect(text).toMatch(/^bad {2}a\.jsonl:2: /);
  });

  test("in a mapped field is named by its path", async () => {
    const lines = jsonl({ q: { text: "2?" }, a: "4" }, { q: {}, a: "4" }, { q: { text: "2?" }, a: 4 });
    const { found } = await run({ "a.jsonl": lines }, { dataFields: "prompt=q.text,completion=a" });
    expect(found).toMatchObject([
      { line: 2, field: "q.text",
        reason: 'expected a value, found nothing: "q" is empty; ' +
          'correct the mapping prompt: "q.text", or write q.text? if it may be missing' },
      { line: 3, field: "a", reason: "expected text, found a number; write it or remove the record" },
    ]);
  });

  test("in a JSON array does not hide those behind it", async () => {
    const { found } = await run({ "a.json": `[\n${JSON.stringify(good)},\n{"prompt": a},\n{"prompt": ""},\n${JSON.stringify(good)}]` });
    expect(found).toMatchObject([{ line: 3, reason: expect.stringMatching(/^expected one JSON value/) }, { line: 4, field: "prompt" }]);
  });

  test("ends a file whose rest cannot be read, and the next file follows", async () => {
    const cut = gzipSync(jsonl(...Array.from({ length: 500 }, (_, i) => ({ prompt: `${i} ${Math.sin(i)}?` })))).subarray(0, 2000);
    const { code, found, folder } = await run({ "a.jsonl.gz": cut, "b.jsonl": jsonl({ prompt: 4 }) }, { data: ["a.jsonl.gz", "b.jsonl"] });
    expect(code).toBe(1);
    expect(found).toMatchObject([
      { file: join(folder, "a.jsonl.gz"), reason: expect.stringMatching(/damaged or truncated.*\(nothing behind it was read\)$/) },
      { file: join(folder, "b.jsonl"), line: 1, field: "prompt" },
    ]);
  });
});

describe("tschat data validate", () => {
  test("is content with good data and counts its shapes", async () => {
    const { code, text, found } = await run({ "a.jsonl": jsonl(good, { prompt: "Hi" }, { text: "The sky is blue." }) });
    expect({ code, found }).toEqual({ code: 0, found: [] });
    expect(text).toMatch(/1 {2}prompt, chosen, rejected {3}first: a\.jsonl:1\n/);
    expect(text).toMatch(/1 {2}text {3}first: a\.jsonl:3\n/);
    expect(text).toContain("3 records: all good");
  });

  test("counts prompts that repeat, within and between training and held-out data, without calling them bad", async () => {
    const a = jsonl({ prompt: "1" }, { prompt: "2" }, { prompt: "1" }, { prompt: "1" });
    const { code, text } = await run({ "a.jsonl": a, "b.jsonl": jsonl({ prompt: "2" }, { prompt: "3" }, { prompt: "3" }) },
      { evalData: "b.jsonl" });
    expect(code).toBe(0);
    expect(text).toMatch(/2 {2}repeats: the same prompt occurs again in the training data\s+first: a\.jsonl:3/);
    expect(text).toMatch(/1 {2}repeats: the same prompt occurs again in the held-out data\s+first: b\.jsonl:3/);
    expect(text).toMatch(/1 {2}repeats: the same prompt occurs again in both training and held-out\s+data\s+first: b\.jsonl:1/);
    expect(text).toContain("4 and 3 held-out records: all good");
  });

  test("counts what is skipped", async () => {
    const { code, text } = await run({ "a.jsonl": jsonl({ prompt: "a", completion: "b", label: false }) });
    expect(code).toBe(0);
    expect(text).toMatch(/1 {2}skipped: the answer is labelled as not wanted/);
  });

  test("counts with a model what is too long for each step", async () => {
    // A ChatML prompt takes at least its four marks and the letters' tokens: more than 3, and fewer than 1000.
    const files = { "a.jsonl": jsonl(good, { ...good, prompt: "word ".repeat(2000) }) };
    const { text } = await run(files, { model: CHATML_FOLDER, maxSeqLen: 1000, maxPromptLen: 3 });
    expect(text).toMatch(/1 {2}too long for sft: more than 1000 tokens \(--max-seq-len\)\s+first: a\.jsonl:2/);
    expect(text).toMatch(/1 {2}too long for reward: more than 1000 tokens/);
    expect(text).toMatch(/2 {2}too long for ppo: more than 3 tokens \(--max-prompt-len\)\s+first: a\.jsonl:1/);
  });

  test("prints as many bad records as it is told to, and writes all to the report", async () => {
    const { text, found } = await run({ "a.jsonl": jsonl({ prompt: 1 }, { prompt: 2 }, { prompt: 3 }) }, { show: 1 });
    expect(text.match(/^bad {2}/gm)).toHaveLength(1);
    expect(text).toContain('     {"prompt":1}\n     2 more\n');
    expect(text).toMatch(/3 {2}field "prompt": expected text, found a number/);
    expect(found.map(({ line }) => line)).toEqual([1, 2, 3]);
  });

  test("replaces an earlier report", async () => {
    const folder = temporaryFolder();
    const report = join(folder, "bad.jsonl");
    writeFileSync(report, "old\n");
    await run({ "a.jsonl": jsonl({ prompt: 1 }) }, { report });
    expect(readFileSync(report, "utf8")).toMatch(/^\{"file".*\}\n$/);
  });

  test("does not let a file write to the terminal what it likes", async () => {
    const { text } = await run({ "a.jsonl": jsonl({ "\u001b[2Jx": "a" }) });
    expect(text).not.toContain("\u001b");
    expect(text).toContain("\\x1b[2Jx");
  });

  test("refuses a path that is missing and a mapping that is wrong", async () => {
    await expectConfigError(() => run({ "a.jsonl": "" }, { data: ["none.jsonl"] }),
      /none\.jsonl: expected a data file or a folder of them, found nothing/);
    await expectConfigError(() => run({ "a.jsonl": "" }, { dataFields: "question" }),
      /^--data-fields: expected name=path, found "question"; /);
  });
});
