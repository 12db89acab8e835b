import fc from "fast-check";
import { expect, test } from "vitest";
import { preferenceCodec, promptCodec, sftCodec } from "../../../src/data/cache/sample-codec.ts";

const tokens = fc.array(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: 40 });

test("an SFT sample comes back as it was", () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(), fc.boolean()), { minLength: 1, maxLength: 60 }), (pairs) => {
    const sample = { tokens: pairs.map(([token]) => token), lossMask: pairs.map(([, mask]) => mask) };
    expect(sftCodec.decode(sftCodec.encode(sample))).toEqual(sample);
  }));
});

test("a pair comes back as it was", () => {
  fc.assert(fc.property(tokens, tokens, fc.nat(40), (chosen, rejected, promptLength) => {
    const sample = { chosen, rejected, promptLength };
    expect(preferenceCodec.decode(preferenceCodec.encode(sample))).toEqual(sample);
  }));
});

test("a prompt comes back as it was, with text of any script", () => {
  fc.assert(fc.property(tokens, fc.string({ unit: "grapheme" }), (prompt, text) => {
    const messages = [{ role: "system", content: "Be brief." }, { role: "user", content: text }] as const;
    for (const sample of [{ tokens: prompt, messages, text }, { tokens: prompt, messages: undefined, text }]) {
      expect(promptCodec.decode(promptCodec.encode(sample))).toEqual(sample);
    }
  }));
});

test("a mask takes a word for each change, not for each token", () => {
  // The number of tokens, 6 tokens, changes at 2, 4 and 5.
  const sample = { tokens: [1, 2, 3, 4, 5, 6], lossMask: [false, false, true, true, false, true] };
  expect(Array.from(sftCodec.encode(sample))).toEqual([6, 1, 2, 3, 4, 5, 6, 2, 4, 5]);
});
