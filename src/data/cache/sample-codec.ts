import type { Message } from "../../tokenizer/message.ts";
import type { PreferencePair, PromptSample, SftSample } from "../encode.ts";

/** Samples as 32-bit words, and back. */
export interface SampleCodec<T> {
  encode(sample: T): Int32Array;
  decode(words: Int32Array): T;
}

/** Number of tokens, tokens, then where the loss mask changes: it begins with false. */
export const sftCodec: SampleCodec<SftSample> = {
  encode({ tokens, lossMask }) {
    const changes = lossMask.flatMap((value, i) => (value === (lossMask[i - 1] ?? false) ? [] : [i]));
    return Int32Array.from([tokens.length, ...tokens, ...changes]);
  },
  decode(words) {
    const [numTokens = 0] = words;
    const lossMask = new Array<boolean>(numTokens);
    const changes = [...words.subarray(1 + numTokens), numTokens];
    let start = 0;
    for (const [i, end] of changes.entries()) {
      lossMask.fill(i % 2 === 1, start, end);
      start = end;
    }
    return { tokens: Array.from(words.subarray(1, 1 + numTokens)), lossMask };
  },
};

/** Length of the prompt, number of tokens of the chosen side, then both sides. */
export const preferenceCodec: SampleCodec<PreferencePair> = {
  encode({ chosen, rejected, promptLength }) {
    return Int32Array.from([promptLength, chosen.length, ...chosen, ...rejected]);
  },
  decode(words) {
    const [promptLength = 0, numChosen = 0] = words;
    return { chosen: Array.from(words.subarray(2, 2 + numChosen)), rejected: Array.from(words.subarray(2 + numChosen)), promptLength };
  },
};

/** Number of tokens, number of UTF-8 bytes, tokens, the messages or the plain text as JSON. */
export const promptCodec: SampleCodec<PromptSample> = {
  encode({ tokens, messages, text }) {
    const bytes = Buffer.from(JSON.stringify(messages ?? text));
    const words = new Int32Array(2 + tokens.length + Math.ceil(bytes.length / 4));
    words.set([tokens.length, bytes.length]);
    words.set(tokens, 2);
    Buffer.from(words.buffer).set(bytes, 4 * (2 + tokens.length));
    return words;
  },
  decode(words) {
    const [numTokens = 0, numBytes = 0] = words;
    const json = Buffer.from(words.buffer, words.byteOffset + 4 * (2 + numTokens), numBytes).toString();
    const prompt = JSON.parse(json) as readonly Message[] | string, tokens = Array.from(words.subarray(2, 2 + numTokens));
    if (typeof prompt === "string") return { tokens, messages: undefined, text: prompt };
    return { tokens, messages: prompt, text: prompt.at(-1)?.content ?? "" };
  },
};
