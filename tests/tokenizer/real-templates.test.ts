import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { chatmlParts } from "./fixture.ts";

/** What transformers renders, without and with a generation prompt; see the README beside it. */
interface Expected {
  bos_token?: string;
  eos_token: string;
  rendered: Record<string, (string | { error: string })[]>;
}

const read = (name: string) => readFileSync(fileURLToPath(new URL(`../fixtures/templates/${name}`, import.meta.url)), "utf8");
const { conversations, templates } = JSON.parse(read("expected.json")) as {
  conversations: Record<string, Message[]>;
  templates: Record<string, Expected>;
};
const names = Object.keys(templates);

/** A small tokenizer with everything in `name`'s template that looks like a special token. */
async function tokenizerFor(name: string): Promise<Tokenizer> {
  const source = read(`${name}.jinja`);
  const { bos_token, eos_token } = templates[name] as Expected;
  const marks = source.match(/<[^<>\s'"{}+]{1,40}>|\[\/?[A-Z_]+\]/g) ?? [];
  const added = [...new Set([...(bos_token ? [bos_token] : []), eos_token, ...marks])];
  const config = { bos_token, eos_token, unk_token: undefined, pad_token: undefined, additional_special_tokens: added };
  const parts = chatmlParts(config);
  const json = JSON.parse(parts.tokenizerJson) as { added_tokens: { id: number; content: string }[] };
  const known = new Set(json.added_tokens.map(({ content }) => content));
  const flags = { special: true, lstrip: false, rstrip: false, single_word: false, normalized: false };
  json.added_tokens.push(...added.filter((content) => !known.has(content)).map((content, i) => ({ id: 400 + i, content, ...flags })));
  return Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json), chatTemplate: source }, name);
}

/** Templates whose answers do not end with one special token. */
const WITHOUT_END: readonly string[] = ["apertus", "chatglm4", "falcon", "minicpm"];

beforeAll(() => {
  vi.useFakeTimers({ now: new Date(2026, 6, 4, 12, 30), toFake: ["Date"] }); // Python's clock stood there: Llama 3 prints the date
});
afterAll(() => {
  vi.useRealTimers();
});

test("there are at least 20 templates", () => {
  expect(names.length).toBeGreaterThanOrEqual(20);
});

describe.each(names.filter((name) => !WITHOUT_END.includes(name)))("%s", (name) => {
  test.each(Object.keys(conversations))("%s: is rendered as by transformers, or refused as there", async (title) => {
    const tokenizer = await tokenizerFor(name);
    for (const [i, wanted] of (templates[name]?.rendered[title] ?? []).entries()) {
      const render = () => tokenizer.render(conversations[title] ?? [], { addGenerationPrompt: i === 1 });
      if (typeof wanted === "string") expect(render()).toBe(wanted);
      else expect(render).toThrow(ConfigError);
    }
  });
});
