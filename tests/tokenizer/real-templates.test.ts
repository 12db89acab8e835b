import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { rejection } from "../failure.ts";
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

/** Where the library differs from Jinja: an empty text is equal to false, so that an empty system message counts as none. */
const DIFFERENT = new Map([["command-r-plus", "empty system"], ["trl-cohere", "empty system"], ["vigogne", "empty system"]]);

/** Templates, with the conversations, that rewrite: the prompt of an answer is no beginning of the conversation with it. */
const REWRITING: Readonly<Record<string, RegExp>> = {
  "command-r7b": /./, // asks for thoughts, and prints answers without
  "deepseek-r1-distill-llama": /./, // the same
  "mistral-nemo": /system/, // prints the system message with a question at the end only
};

/** Token that ends an assistant's turn; what is not here ends with eos_token. */
const END_OF_TURN: Readonly<Record<string, string>> = {
  "command-r7b": "<|END_RESPONSE|>",
  "gemma-1": "<end_of_turn>",
  "gemma-2": "<end_of_turn>",
  internlm2: "<|im_end|>",
  "npm-gemma3": "<end_of_turn>",
  "npm-llama3": "<|eot_id|>",
  "phi-3-small": "<|end|>",
  "phi-3.5": "<|end|>",
  "trl-gemma": "<end_of_turn>",
  "trl-phi3": "<|end|>",
};

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
      if (DIFFERENT.get(name) === title) expect(render()).not.toBe(wanted);
      else if (typeof wanted === "string") expect(render()).toBe(wanted);
      else expect(render).toThrow(ConfigError);
    }
  });

  test("a prompt is the beginning of the conversation, and the mask covers the answers with their ends", async () => {
    const tokenizer = await tokenizerFor(name);
    const end = END_OF_TURN[name] ?? templates[name]?.eos_token ?? "";
    expect(await tokenizer.encode(end)).toEqual([tokenizer.endOfTurnTokenId]);
    for (const [title, messages] of Object.entries(conversations)) {
      const wanted = templates[name]?.rendered[title]?.[0];
      if (typeof wanted !== "string" || messages.at(-1)?.role !== "assistant" || messages[0]?.role === "assistant") continue;
      if (REWRITING[name]?.test(title)) {
        await expect(tokenizer.encodeConversation(messages)).rejects.toThrow(/changes what was rendered before it/);
        continue;
      }
      const prompt = await tokenizer.encodePrompt(messages.slice(0, -1));
      const { tokens, assistantMask } = await tokenizer.encodeConversation(messages);
      expect(tokens.slice(0, prompt.length)).toEqual(prompt);
      const text = tokenizer.decode(tokens, { skipSpecialTokens: false });
      expect(DIFFERENT.get(name) === title || wanted.startsWith(text)).toBe(true);
      expect(tokens.at(-1)).toBe(tokenizer.endOfTurnTokenId);
      const answers = answersOf(tokens, assistantMask).map((answer) => tokenizer.decode(answer, { skipSpecialTokens: false }));
      const contents = messages.filter(({ role }) => role === "assistant").map(({ content }) => content.trim());
      // Templates of models that think print that the last answer comes without thoughts.
      expect(answers.map((answer) => answer.slice(0, -end.length).replace("<think>\n\n</think>", "").trim())).toEqual(contents);
      expect(answers.every((answer) => answer.endsWith(end))).toBe(true);
    }
  });
});

/** The stretches of tokens where the mask is true. */
function answersOf(tokens: readonly number[], mask: readonly boolean[]): number[][] {
  const answers: number[][] = [];
  for (const [i, token] of tokens.entries()) {
    if (!mask[i]) continue;
    if (!mask[i - 1]) answers.push([]);
    answers.at(-1)?.push(token);
  }
  return answers;
}

test.each(WITHOUT_END)("%s is refused, since its answers have no end", async (name) => {
  expect(await rejection(() => tokenizerFor(name))).toMatchObject({
    name: "ConfigError",
    code: "E_CONFIG",
    message: expect.stringContaining(`${name}: chat template: an assistant's turn must end with one special token`),
  });
});
