import { describe, expect, test } from "vitest";
import { type ConversationEncoder, encodeDemonstrations, encodePreferences, encodePrompts } from "../../src/data/encode.ts";
import type { Demonstration, Preference, PromptRecord } from "../../src/data/records.ts";
import { ConfigError } from "../../src/errors.ts";
import type { Message } from "../../src/tokenizer/message.ts";
import { expectConfigError } from "./expect-config-error.ts";

const END_OF_TURN = 0;
/** The start token, which only plain text gets. */
const START = 9;
const OPEN = { system: 1, user: 2, assistant: 3 };

/** One token for the role, then one per character (its code), then the end of turn. */
class CharacterEncoder implements ConversationEncoder {
  readonly endOfTurnTokenId = END_OF_TURN;

  async encode(text: string, { addSpecialTokens }: { addSpecialTokens: boolean }): Promise<number[]> {
    return [...(addSpecialTokens ? [START] : []), ...codes(text)];
  }

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

function plain(prompt: string, answer: string): Demonstration {
  return { kind: "demonstration", origin, prompt, answer, trainedTurns: "all" };
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
  test("encodes plain text without the chat template: start token, prompt, answer, end of turn", async () => {
    const encoded = await encodeDemonstrations([plain("a", "b"), plain("", "cd")], encoder, { maxSeqLen: 12, lossOn: "answer" });
    expect(encoded.samples).toEqual([
      { tokens: [START, a, b, 0], lossMask: mask("..##") },
      { tokens: [START, c, d, 0], lossMask: mask(".###") },
    ]);
  });

  test("shortens plain text as it shortens messages", async () => {
    const encode = async (truncation: "left" | "right") => {
      const { samples } = await encodePrompts([{ kind: "prompt", origin, prompt: "abcd" }], encoder, { maxPromptLen: 3, truncation });
      return samples.map(({ tokens }) => tokens);
    };
    expect(await encode("left")).toEqual([[START, c, d]]);
    expect(await encode("right")).toEqual([[START, a, b]]);
    const whole = await encodeDemonstrations([plain("", "abcd")], encoder, { maxSeqLen: 4, lossOn: "answer", truncation: "right" });
    expect(whole.samples).toEqual([{ tokens: [START, a, b, c], lossMask: mask(".###") }]);
  });

  test("has no loss on the first token where plain text gets no start token: nothing predicts it", async () => {
    const withoutStart: ConversationEncoder = Object.assign(new CharacterEncoder(), { encode: async (text: string) => codes(text) });
    const encoded = await encodeDemonstrations([plain("", "cd")], withoutStart, { maxSeqLen: 12, lossOn: "answer" });
    expect(encoded.samples).toEqual([{ tokens: [c, d, 0], lossMask: mask(".##") }]);
  });

  const dialogue = [user("a"), assistant("b"), user("c")];
  // user a end, assistant b end, user c end, assistant d end
  const tokens = [2, a, 0, 3, b, 0, 2, c, 0, 3, d, 0];

  test.each([
    ["the last answer with its end of turn", "last", "answer", "..........##"],
    ["every assistant turn of a conversation", "all", "answer", "....##....##"],
    ["every token but the first", "last", "all", ".###########"],
  ] as const)("puts the loss on %s", async (_, trainedTurns, lossOn, lossMask) => {
    const encoded = await encodeDemonstrations([demonstration(dialogue, "d", trainedTurns)], encoder, { maxSeqLen: 12, lossOn });
    expect(encoded).toEqual({ samples: [{ tokens, lossMask: mask(lossMask) }], dropped: {}, numTruncated: 0 });
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
    const options = { maxSeqLen: 6, lossOn: "answer", truncation: "right" } as const;
    const { samples, dropped, numTruncated } = await encodeDemonstrations(records, encoder, options);
    expect(samples).toEqual([{ tokens: [2, a, 0, 3, b, c], lossMask: mask("....##") }]);
    expect(numTruncated).toBe(1);
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
    expect(await encodeDemonstrations([], encoder, { maxSeqLen: 6, lossOn: "answer" }))
      .toEqual({ samples: [], dropped: {}, numTruncated: 0 });
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
  test("encodes plain text as it is", async () => {
    const { samples } = await encodePrompts([{ kind: "prompt", origin, prompt: "ab" }], encoder, { maxPromptLen: 10 });
    expect(samples).toEqual([{ tokens: [START, a, b], text: "ab" }]);
  });

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

describe("truncation", () => {
  const dialogue = [user("a"), assistant("b"), user("cc")];

  test("left takes whole turns of a demonstration, then text of the last user message, and never of the answer", async () => {
    const encode = (maxSeqLen: number) =>
      encodeDemonstrations([demonstration(dialogue, "dd", "all")], encoder, { maxSeqLen, lossOn: "answer", truncation: "left" });
    // user cc end, assistant dd end: 8 tokens
    expect(await encode(8)).toEqual({
      samples: [{ tokens: [2, c, c, 0, 3, d, d, 0], lossMask: mask(".....###") }], dropped: {}, numTruncated: 1,
    });
    expect((await encode(7)).samples).toEqual([{ tokens: [2, c, 0, 3, d, d, 0], lossMask: mask("....###") }]);
    await expectConfigError(() => encode(6), /^maxSeqLen 6: .*the shortest of 14 tokens; /);
  });

  test("left shortens the prompt of a pair the same on both sides", async () => {
    const records = [preference("abcd", "b", "ccc"), preference("abcd", "bbbbb", "c"), preference("a", "b", "c")];
    const { samples, dropped, numTruncated } = await encodePreferences(records, encoder, { maxSeqLen: 8, truncation: "left" });
    // user d end, assistant ccc end: 8 tokens; with bbbbb 9 whatever is cut
    expect(samples).toEqual([
      { chosen: [2, d, 0, 3, b, 0], rejected: [2, d, 0, 3, c, c, c, 0], promptLength: 4 },
      { chosen: [2, a, 0, 3, b, 0], rejected: [2, a, 0, 3, c, 0], promptLength: 4 },
    ]);
    expect([dropped, numTruncated]).toEqual([{ "longer than maxSeqLen 8": 1 }, 1]);
  });

  test("right cuts each side of a pair, and drops one whose sides become equal", async () => {
    const records = [preference("a", "bcd", "bb"), preference("a", "bcd", "bca"), preference("abcdef", "b", "c")];
    const { samples, dropped, numTruncated } = await encodePreferences(records, encoder, { maxSeqLen: 6, truncation: "right" });
    expect(samples).toEqual([{ chosen: [2, a, 0, 3, b, c], rejected: [2, a, 0, 3, b, b], promptLength: 4 }]);
    expect([dropped, numTruncated]).toEqual([{ "the first 6 tokens (maxSeqLen) of both sides are equal": 2 }, 1]);
  });

  test("keeps what opens and closes a prompt, on both sides", async () => {
    const user = (content: string) => ({ role: "user", content });
    const encode = (truncation: "left" | "right", maxPromptLen: number) =>
      encodePrompts([promptRecord("abcd")], encoder, { maxPromptLen, truncation });
    // user x end assistant y end user abcd end assistant: 13 tokens; without the first turns 7
    expect((await encode("left", 12)).samples).toMatchObject([{ tokens: [2, a, b, c, d, 0, 3], text: "abcd", messages: [user("abcd")] }]);
    expect((await encode("left", 5)).samples).toMatchObject([{ tokens: [2, c, d, 0, 3], text: "cd", messages: [user("cd")] }]);
    const tokens = [2, ...codes("x"), 0, 3, ...codes("y"), 0, 2, a, b, c, 0, 3];
    expect((await encode("right", 12)).samples).toMatchObject([
      { tokens, text: "abc", messages: [user("x"), { role: "assistant", content: "y" }, user("abc")] },
    ]);
    await expectConfigError(() => encode("right", 9), /^maxPromptLen 9: .*the shortest of 13 tokens; /);
  });

  test("error ends with file, line and length", async () => {
    await expectConfigError(
      () => encodePrompts([promptRecord("a"), promptRecord("ab")], encoder, { maxPromptLen: 10, truncation: "error" }),
      /^data\.jsonl:9: expected at most 10 tokens \(maxPromptLen\), found 11; shorten the record, raise maxPromptLen, or /,
    );
  });
});
