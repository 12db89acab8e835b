import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { shortenPrompt } from "../../src/data/truncate.ts";
import type { Message } from "../../src/tokenizer/message.ts";

const system = (content: string): Message => ({ role: "system", content });
const user = (content: string): Message => ({ role: "user", content });
const assistant = (content: string): Message => ({ role: "assistant", content });

/** Accepts prompts of at most `limit` characters in all. */
const within = (limit: number) => async (prompt: readonly Message[]) =>
  (prompt.reduce((sum, { content }) => sum + Array.from(content).length, 0) <= limit ? prompt : undefined);

const dialogue = [system("S"), user("one"), assistant("two"), user("three"), assistant("four"), user("five!")];

describe("shortenPrompt", () => {
  test.each([
    [15, [system("S"), user("three"), assistant("four"), user("five!")]], // 1 + 5 + 4 + 5
    [14, [system("S"), user("five!")]],
    [6, [system("S"), user("five!")]],
    [5, [system("S"), user("ive!")]],
    [2, [system("S"), user("!")]],
    [1, undefined],
  ])("left, to %d: takes the oldest turns, then the beginning of the last text, never the system's", async (limit, expected) => {
    expect(await shortenPrompt(dialogue, "left", within(limit))).toEqual(expected);
  });

  test.each([
    [20, [...dialogue.slice(0, -1), user("five")]], // 1 + 3 + 3 + 5 + 4 = 16 before the last
    [17, [...dialogue.slice(0, -1), user("f")]],
    [16, undefined],
  ])("right, to %d: takes the end of the last text and no turn", async (limit, expected) => {
    expect(await shortenPrompt(dialogue, "right", within(limit))).toEqual(expected);
  });

  test("counts characters, not halves of them", async () => {
    const shortened = await shortenPrompt([user("\u{1f600}\u{1f601}\u{1f602}")], "left", within(2));
    expect(shortened).toEqual([user("\u{1f601}\u{1f602}")]);
  });

  test("keeps as much of a lone message as is accepted", async () => {
    const sides = fc.constantFrom<"left" | "right">("left", "right");
    await fc.assert(fc.asyncProperty(fc.integer({ min: 2, max: 300 }), fc.nat(), sides, async (size, n, side) => {
      const text = Array.from({ length: size }, (_, i) => String.fromCharCode(97 + (i % 26))).join("");
      const limit = n % size;
      const shortened = await shortenPrompt([user(text)], side, within(limit));
      const expected = side === "left" ? text.slice(size - limit) : text.slice(0, limit);
      expect(shortened).toEqual(limit === 0 ? undefined : [user(expected)]);
    }));
  });
});
