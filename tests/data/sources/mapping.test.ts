import { describe, expect, test } from "vitest";
import { compileMapping, type FieldMapping } from "../../../src/data/sources/mapping.ts";
import { recordReader } from "../../../src/data/sources/source.ts";
import { expectConfigError } from "../expect-config-error.ts";

const origin = { path: "data.jsonl", line: 3 };
const user = (content: string) => ({ role: "user", content }) as const;
const assistant = (content: string) => ({ role: "assistant", content }) as const;
const system = (content: string) => ({ role: "system", content }) as const;
const read = (fields: FieldMapping, record: unknown) => recordReader({ path: "data.jsonl", fields })(record, origin);

describe("a field mapping", () => {
  test.each<[string, FieldMapping, unknown, object]>([
    ["renames fields", { prompt: "question", completion: "answer" }, { question: "2?", answer: "4" },
      { kind: "demonstration", prompt: [user("2?")], answer: "4", trainedTurns: "last" }],
    ["follows paths through objects and lists", { prompt: "q.text", chosen: "answers.0.text", rejected: "answers.-1.text" },
      { q: { text: "2?" }, answers: [{ text: "4" }, { text: "3" }, { text: "5" }] },
      { kind: "preference", prompt: [user("2?")], chosen: "4", rejected: "5" }],
    ["prefers a field whose name has a dot", { prompt: "q.text" }, { "q.text": "2?", q: { text: "no" } },
      { kind: "prompt", prompt: [user("2?")] }],
    ["puts texts together", { prompt: "{instruction}\n\n{input}", completion: "{answer}" },
      { instruction: "Add", input: "2 and 2", answer: 4 },
      { prompt: [user("Add\n\n2 and 2")], answer: "4" }],
    ["drops the blanks that an empty text leaves", { prompt: "{instruction}\n\n{input}" }, { instruction: "Add", input: "" },
      { prompt: [user("Add")] }],
    ["reads null in a text as nothing", { prompt: "{instruction}\n\n{input}" }, { instruction: "Add", input: null },
      { prompt: [user("Add")] }],
    ["lets optional fields be missing", { prompt: "{instruction}\n\n{input?}", system: "meta.system?" }, { instruction: "Add" },
      { prompt: [user("Add")] }],
    ["takes doubled braces as they are", { prompt: "{{{q}}}" }, { q: "2?" }, { prompt: [user("{2?}")] }],
    ["adds a constant system message", { prompt: "q", system: "=Answer in one word." }, { q: "2?" },
      { prompt: [system("Answer in one word."), user("2?")] }],
    ["maps lists of messages with other names",
      { messages: "turns", "message.role": "speaker", "message.content": "text", "roles.bot": "assistant", "roles.me": "user" },
      { turns: [{ speaker: "me", text: "2?" }, { speaker: "bot", text: "4" }] },
        { kind: "demonstration", prompt: [user("2?")], answer: "4" }],
    ["maps roles of ShareGPT", { messages: "conversation", "roles.model": "assistant" },
      { conversation: [{ from: "human", value: "2?" }, { from: "model", value: "4" }] }, { prompt: [user("2?")], answer: "4" }],
    ["finds messages for prompt and answers", { prompt: "context", chosen: "good", rejected: "bad" },
      { context: [user("Hi"), assistant("Hello"), user("2?")], good: [assistant("4")], bad: "5" },
      { kind: "preference", prompt: [user("Hi"), assistant("Hello"), user("2?")], chosen: "4", rejected: "5" }],
    ["reads text without template", { text: "body" }, { body: "The sky is blue." },
      { kind: "demonstration", prompt: "", answer: "The sky is blue.", trainedTurns: "all" }],
    ["skips where a condition holds", { prompt: "q", skip_if: 'language != "en"' }, { q: "2?", language: "fr" },
      { kind: "skipped", reason: 'skip_if: language != "en"' }],
  ])("%s", (_, fields, record, expected) => {
    expect(read(fields, record)).toMatchObject(expected);
  });

  const two = { prompt: "q", answer_a: "a", answer_b: "b" };
  test.each<[string, object, "a" | "b" | "neither"]>([
    ['winner = "x"', { winner: "x" }, "a"],
    ['winner = "x"', { winner: "y" }, "b"],
    ["score_a > score_b", { score_a: 10, score_b: 9 }, "a"],
    ["score_a > score_b", { score_a: "9", score_b: "10" }, "b"], // as numbers, though "9" > "10" as text
    ["score_a >= score_b", { score_a: 1, score_b: 1 }, "a"],
    ["label=1", { label: 1 }, "a"],
    ["label = 1", { label: "1" }, "a"],
    ["is_first = true", { is_first: true }, "a"],
    ["is_first = true", { is_first: false }, "b"],
    ["votes.a != votes.b", { votes: { a: 1, b: 1 } }, "b"],
  ])("chooses between two answers: %s of %j is %s", (condition, record, winner) => {
    const result = read({ ...two, a_wins: condition }, { q: "?", a: "A", b: "B", ...record });
    expect(result).toMatchObject(winner === "a" ? { chosen: "A", rejected: "B" } : { chosen: "B", rejected: "A" });
  });

  test("skips a tie where a second condition says when the other one wins", () => {
    const fields = { ...two, a_wins: "p < 0", b_wins: "p > 0" };
    expect([-1, 1, 0].map((p) => read(fields, { q: "?", a: "A", b: "B", p }))).toMatchObject([
      { chosen: "A" }, { chosen: "B" }, { kind: "skipped", reason: "neither answer is preferred" },
    ]);
  });

  const at = "^data\\.jsonl:3: ";
  test.each<[string, FieldMapping, unknown, string]>([
    ["a missing field", { prompt: "question" }, { query: "a", id: 1 },
      'field "question": expected a value, found nothing: the record has "query", "id"; ' +
        'correct the mapping prompt: "question", or write question\\? if it may be missing$'],
    ["a missing inner field", { prompt: "q.text" }, { q: { body: "a" } },
      'field "q.text": expected a value, found nothing: "q" has "body"; '],
    ["an index that is too high", { prompt: "q.2" }, { q: ["a", "b"] },
      'field "q.2": expected a value, found nothing: "q" is a list with 2 entries; '],
    ["a path into text", { prompt: "q.text" }, { q: "a" }, 'field "q.text": expected a value, found nothing: "q" is text; '],
    ["a list inside a text", { prompt: "{q}" }, { q: ["a"] },
      'field "q": expected text or a number, found a list; correct the mapping prompt: "{q}"$'],
    ["no number in a comparison", { ...two, a_wins: "s > 1" }, { q: "?", a: "A", b: "B", s: "high" },
      'field "s": expected a number, found text; correct the mapping a_wins: "s > 1"$'],
    ["a mapped answer of another kind", { prompt: "q", completion: "a.text" }, { q: "?", a: { text: 4 } },
      'field "a.text": expected text, found a number; '],
    ["a mapped message without text", { messages: "talk" }, { talk: [{ role: "user", content: "" }] },
      'field "talk\\[0\\]\\.content": expected text, found blank text; '],
    ["a role without mapping", { messages: "talk" }, { talk: [{ role: "bot", content: "a" }] },
      'field "talk\\[0\\]\\.role": expected one of system, user, assistant, found "bot"; .* map it \\(roles\\.<name>: user\\)$'],
  ])("names file, line and path for %s", async (_, fields, record, message) => {
    await expectConfigError(() => read(fields, record), new RegExp(at + message));
  });

  test.each<[string, FieldMapping, string]>([
    ["an unknown key", { prmpt: "q" }, 'fields: "prmpt" is unknown; known are prompt, system, '],
    ["an empty step of a path", { prompt: "a..b" }, 'fields: prompt: expected a path such as answers\\.0\\.text, found "a\\.\\.b"; '],
    ["half a brace", { prompt: "{a} {b" }, 'fields: prompt: expected every brace to have its partner, found "{b"; '],
    ["no comparison", { ...two, a_wins: "winner" }, "fields: a_wins: expected a comparison such as .*, found \"winner\""],
    ["answers without a condition", { prompt: "q", answer_a: "a", answer_b: "b" },
      "fields: expected answer_a, answer_b and a_wins together; "],
    ["two shapes at once", { prompt: "q", completion: "a", chosen: "b" }, 'fields: "completion" and "chosen" are for different shapes; '],
    ["answers alone", { completion: "a" }, 'fields: expected "prompt", "messages", "text" or "chosen"; '],
    ["an unknown role", { messages: "m", "roles.bot": "robot" }, 'fields: roles\\.bot: expected system, user or assistant, found "robot"'],
  ])("is refused with %s", async (_, fields, message) => {
    await expectConfigError(() => compileMapping(fields), new RegExp(`^${message}`));
    await expectConfigError(() => recordReader({ path: "x.jsonl", fields }), new RegExp(`^x\\.jsonl: ${message}`));
  });
});

describe("recordReader", () => {
  test("reads a local file in the format of a named data set", () => {
    const reader = recordReader({ path: "local.jsonl", format: "openai/gsm8k" });
    expect(reader({ question: "2?", answer: "4" }, origin)).toMatchObject({ prompt: [user("2?")], answer: "4" });
  });

  test.each<[string, Parameters<typeof recordReader>[0], RegExp]>([
    ["an unknown format", { path: "x.jsonl", format: "gsm9k" },
      /^x\.jsonl: format "gsm9k" is unknown; expected parity or one of Cohere\/|Dahoas\//],
    ["a format beside a mapping", { path: "x.jsonl", format: "gsm8k", fields: { prompt: "q" } },
      /^x\.jsonl: expected a format or a field mapping, found both/],
    ["parity without a data set", { path: "x.jsonl", format: "parity" },
      /^x\.jsonl: format parity: expected a data set that DeepSpeed-Chat knows, found another; /],
    ["parity with another data set", { path: "x.jsonl", format: "parity:gsm8k" },
      /DeepSpeed-Chat knows, found openai\/gsm8k; name one, such as parity:/],
  ])("refuses %s", async (_, source, message) => {
    await expectConfigError(() => recordReader(source), message);
  });
});
