import { describe, expect, test } from "vitest";
import { clip, visible, widthOf, wrap } from "../../src/cli/terminal-text.ts";
import { SeenTexts } from "../../src/cli/seen-texts.ts";
import { Tally } from "../../src/cli/tally.ts";

const plain = (text: string) => ({ text, paint: (line: string) => line });

// Widths as Unicode TR11 has them: ideographs, kana and Hangul 2, combining marks 0; an emoji of several code points is one of 2.
test.each([
  ["abc", 3], ["\u4f60\u597d", 4], ["\u3053\u3093", 4], ["\ud55c", 2], ["e\u0301", 1], ["\u{1f600}", 2],
  ["\u{1f469}\u200d\u{1f469}\u200d\u{1f466}", 2], ["\u2764\ufe0f", 2], ["\uff21", 2], ["", 0],
])("widthOf(%j) is %i", (text, width) => {
  expect(widthOf(text)).toBe(width);
});

describe("wrap", () => {
  test("breaks between words, and keeps line breaks and indentation of the text", () => {
    expect(wrap([plain("one two three\n  four five\n\nsix")], 9)).toEqual(["one two ", "three", "  four ", "five", "", "six"]);
  });

  test("breaks a long word, and counts wide characters as two", () => {
    expect(wrap([plain("abcdefgh")], 3)).toEqual(["abc", "def", "gh"]);
    expect(wrap([plain("\u4f60\u597d\u4e16\u754c")], 5)).toEqual(["\u4f60\u597d", "\u4e16\u754c"]);
  });

  test("colours each line of a stretch by itself", () => {
    expect(wrap([plain("ab "), { text: "cd ef", paint: (line) => `<${line}>` }], 6)).toEqual(["ab <cd >", "<ef>"]);
  });

  test("drops the blanks at which a line is broken, and no others", () => {
    expect(wrap([plain("abcd  ef\n  gh")], 4)).toEqual(["abcd", "ef", "  gh"]);
  });
});

test("clip cuts to a width and says so", () => {
  expect(clip("abcdef", 6)).toBe("abcdef");
  expect(clip("abcdefg", 6)).toBe("abc...");
  expect(clip("\u4f60\u597d\u4e16\u754c", 6)).toBe("\u4f60...");
});

test("visible writes control characters and direction marks out", () => {
  expect(visible("a\u001b[2J\n\t\u202eb\u2028")).toBe("a\\x1b[2J\\n\\t\\u202eb\\u2028");
  expect(visible("a\n\tb\r", true)).toBe("a\n    b\\x0d");
});

describe("SeenTexts", () => {
  test("knows each of many texts once, through all its growth", () => {
    const seen = new SeenTexts();
    const texts = Array.from({ length: 5000 }, (_, i) => `text ${i}`);
    expect(texts.map((text) => seen.add(text))).toEqual(texts.map(() => true));
    expect(texts.every((text) => seen.has(text) && !seen.add(text))).toBe(true);
    expect(seen.has("text 5000")).toBe(false);
  });
});

describe("Tally", () => {
  test("sorts by count, and gives long reasons lines of their own", () => {
    const tally = new Tally();
    tally.add("rare", "a:1");
    for (const line of [2, 3]) tally.add("a reason that is rather long", `a:${line}`);
    expect(tally.lines(80)).toEqual(["       2  a reason that is rather long   first: a:2", "       1  rare   first: a:1"]);
    expect(tally.lines(30)[0]).toBe("       2  a reason that is \n          rather long\n          first: a:2");
  });

  test("keeps a bounded number of kinds", () => {
    const tally = new Tally();
    for (let i = 0; i < 3000; i++) tally.add(`kind ${i}`, "a:1");
    expect(tally.size).toBe(1001);
    expect(tally.count("others")).toBe(2000);
  });
});
