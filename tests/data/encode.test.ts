import { describe, expect, test } from "vitest";
import { type ConversationEncoder, encodeDemonstrations, encodePreferences, encodePrompts } from "../../src/data/encode.ts";
import type { Demonstration, Preference, PromptRecord } from "../../src/data/records.ts";
import { ConfigError } from "../../src/errors.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { expectConfigError } from "./expect-config-error.ts";

const END_OF_TURN = 0;
const OPEN = { system: 1, user: 2, assistant: 3 };

/** One token for the role, then one per character (its code), then the end of turn. */
class CharacterEncoder implements ConversationEncoder {
  async encodePrompt(messages: readonly Message[]): Promise<number[]> {
    return [...messages.flatMap(({ role, content }) => [OPEN[role], ...codes(content), END_OF_TURN]), OPEN.assistant];
  }

  async encodeConversation(messages: readonly Message[]): Promise<{ tokens: number[]; assistantMask: boolean[] }> {
    if (messages.some(({ content }) => content === "forbidden")) throw new ConfigError("the chat template refuses the conversation");
    const turns = messages.map(({ role, content }) => ({ role, tokens: [OPEN[role], ...codes(content), END_OF_TURN] }));
    const assistantMask = turns.flatMap(({ role, tokens }) => tokens.map((_, i) => role === "assistant" && i > 0));
    return { tokens: turns.flatMap(({ tokens }) => tokens), assistantMask };
  }
}

const codes = (text: string) => [...text].map((character) => character.charCodeAt(0));
const [a, b, c, d] = codes("abcd");
const encoder = new CharacterEncoder();
const origin = { path: "data.jsonl", line: 9 };
const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });

function demonstration(prompt: Message[], answer: string, trainedTurns: "last" | "all" = "last"): Demonstration {
  return { kind: "demonstration", origin, prompt, answer, trainedTurns };
}

function preference(prompt: string, chosen: string, rejected: string): Preference {
  return { kind: "preference", origin, prompt: [user(prompt)], chosen, rejected };
}

function promptRecord(content: string): PromptRecord {
  return { kind: "prompt", origin, prompt: [user("x"), assistant("y"), user(content)] };
}

/** `"..##"`: false for each dot, true for each hash. */
const mask = (text: string) => [...text].map((character) => character === "#");

describe("encodeDemonstrations", () => {
  const dialogue = [user("a"), assistant("b"), user("c")];
  // user a end, assistant b end, user c end, assistant d end
  const tokens = [2, a, 0, 3, b, 0, 2, c, 0, 3, d, 0];

  test.each([
    ["the last answer with its end of turn", "last", "answer", "..........##"],
    ["every assistant turn of a conversation", "all", "answer", "....##....##"],
    ["every token but the first", "last", "all", ".###########"],
  ] as const)("puts the loss on %s", async (_, trainedTurns, lossOn, lossMask) => {
    const encoded = await encodeDemonstrations([demonstration(dialogue, "d", trainedTurns)], encoder, { maxSeqLen: 12, lossOn });
    expect(encoded).toEqual({ samples: [{ tokens, lossMask: mask(lossMask) }], dropped: {} });
  });

  test("drops and counts what is too long, and keeps what just fits", async () => {
    // prompt "a": 4 tokens, the answer's characters, the end of turn
    const records = ["b", "bb", "bbb", "bbbb"].map((answer) => demonstration([user("a")], answer));
    const { samples, dropped } = await encodeDemonstrations(records, encoder, { maxSeqLen: 7, lossOn: "answer" });
    expect(samples.map((sample) => sample.tokens.length)).toEqual([6, 7]);
    expect(dropped).toEqual({ "longer than maxSeqLen 7": 2 });
  });

  test("cuts at the right when asked, but drops what would have no answer left", async () => {
    const records = [demonstration([user("a")], "bcd"), demonstration([user("aaa")], "bcd")];
    const { samples, dropped } = await encodeDemonstrations(records, encoder, { maxSeqLen: 6, lossOn: "answer", truncate: true });
    expect(samples).toEqual([{ tokens: [2, a, 0, 3, b, c], lossMask: mask("....##") }]);
    expect(dropped).toEqual({ "longer than maxSeqLen 6": 1 });
  });

  test("says how long the shortest is when none fits", async () => {
    const records = [demonstration([user("a")], "bcd"), demonstration([user("a")], "bc")];
    await expectConfigError(() => encodeDemonstrations(records, encoder, { maxSeqLen: 6, lossOn: "answer" }),
      /^maxSeqLen 6: expected records of at most 6 tokens, found 2, the shortest of 7 tokens; raise maxSeqLen/);
  });

  test("names the record that the chat template refuses", async () => {
    const records = [demonstration([user("forbidden")], "a")];
    await expectConfigError(() => encodeDemonstrations(records, encoder, { maxSeqLen: 99, lossOn: "answer" }),
      /^data\.jsonl:9: the chat template refuses the conversation$/);
  });

  test("keeps the order of many records and reports progress to the end", async () => {
    const records = Array.from({ length: 150 }, (_, i) => demonstration([user("a")], "b".repeat(1 + (i % 5))));
    const progress: [number, number][] = [];
    const onProgress = (done: number, total: number) => progress.push([done, total]);
    const { samples } = await encodeDemonstrations(records, encoder, { maxSeqLen: 99, lossOn: "answer", onProgress });
    expect(samples.map((sample) => sample.tokens.length)).toEqual(records.map((record) => 5 + record.answer.length));
    expect(progress.at(-1)).toEqual([150, 150]);
    expect(progress.map(([done]) => done)).toEqual(progress.map(([done]) => done).toSorted((x, y) => x - y));
  });

  test("takes no records for no samples", async () => {
    expect(await encodeDemonstrations([], encoder, { maxSeqLen: 6, lossOn: "answer" })).toEqual({ samples: [], dropped: {} });
  });
});

describe("encodePreferences", () => {
  test("gives both sides the prompt, their answer and the end of turn", async () => {
    const { samples } = await encodePreferences([preference("a", "b", "cd")], encoder, { maxSeqLen: 7 });
    expect(samples).toEqual([{ chosen: [2, a, 0, 3, b, 0], rejected: [2, a, 0, 3, c, d, 0], promptLength: 4 }]);
  });

  test("drops a pair of which either side is too long", async () => {
    const records = [preference("a", "b", "bbb"), preference("a", "bbb", "b"), preference("a", "bb", "b")];
    const { samples, dropped } = await encodePreferences(records, encoder, { maxSeqLen: 7 });
    expect(samples.map((pair) => pair.chosen.length)).toEqual([7]);
    expect(dropped).toEqual({ "longer than maxSeqLen 7": 2 });
    await expectConfigError(() => encodePreferences(records, encoder, { maxSeqLen: 6 }), /found 3, the shortest of 7 tokens; /);
  });
});

describe("encodePrompts", () => {
  test("ends where the answer begins, with the last user message as text", async () => {
    const record = promptRecord("a");
    const { samples } = await encodePrompts([record], encoder, { maxPromptLen: 10 });
    const tokens = [2, ...codes("x"), 0, 3, ...codes("y"), 0, 2, a, 0, 3];
    expect(samples).toEqual([{ tokens, messages: record.prompt, text: "a" }]);
  });

  test("drops and counts longer prompts", async () => {
    const { samples, dropped } = await encodePrompts([promptRecord("aa"), promptRecord("a")], encoder, { maxPromptLen: 10 });
    expect(samples.map((sample) => sample.text)).toEqual(["a"]);
    expect(dropped).toEqual({ "longer than maxPromptLen 10": 1 });
    await expectConfigError(
      () => encodePrompts([promptRecord("aa")], encoder, { maxPromptLen: 10 }),
      /^maxPromptLen 10: .*, the shortest of 11 tokens; /,
    );
  });
});
