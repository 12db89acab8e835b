import { describe, expect, test } from "vitest";
import { mergesFromScores } from "../../src/tokenizer/gguf-merges.ts";
import { ggufTokenizerParts, readGgufTokenizer } from "../../src/tokenizer/gguf-tokenizer.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { temporaryFolder } from "./fixture.ts";

/** SentencePiece pieces; U+2581 is a space. Scores order the merges: "ab" before "bc". */
const PIECES = ["<unk>", "<s>", "</s>", "<0x63>", "<0xC3>", "<0xA9>", "\u2581", "a", "b", "c", "ab", "bc", "\u2581ab", "<extra>"];
const SCORES = [0, 0, 0, 0, 0, 0, -1, -2, -3, -4, -5, -6, -7, 0];
const TYPES = [2, 3, 3, 6, 6, 6, 1, 1, 1, 1, 1, 1, 1, 4];

const SENTENCE_PIECE = {
  "general.architecture": "llama",
  "llama.context_length": 64,
  "tokenizer.ggml.model": "llama",
  "tokenizer.ggml.tokens": PIECES,
  "tokenizer.ggml.scores": SCORES,
  "tokenizer.ggml.token_type": TYPES,
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
  "tokenizer.ggml.unknown_token_id": 0,
};

const idsOf = (...pieces: string[]) => pieces.map((piece) => PIECES.indexOf(piece));

describe("SentencePiece", () => {
  test("the merges are all ways to build a piece, best score first", () => {
    expect(mergesFromScores(PIECES, SCORES)).toEqual([
      ["a", "b"],
      ["b", "c"],
      ["\u2581", "ab"],
    ]);
    // abc from ab + c before a + bc: the longer left part first.
    expect(mergesFromScores(["a", "b", "c", "ab", "bc", "abc"], [0, 0, 0, -2, -1, -3])).toEqual([
      ["b", "c"],
      ["a", "b"],
      ["ab", "c"],
      ["a", "bc"],
    ]);
  });

  test("encodes with a space before the text, best merges first, unknown characters as bytes", async () => {
    const tokenizer = await Tokenizer.fromParts(ggufTokenizerParts(SENTENCE_PIECE, "x.gguf"));
    expect(await tokenizer.encode("abc")).toEqual(idsOf("\u2581ab", "c"));
    expect(await tokenizer.encode("cab b")).toEqual(idsOf("\u2581", "c", "ab", "\u2581", "b"));
    expect(await tokenizer.encode("\u00e9")).toEqual(idsOf("\u2581", "<0xC3>", "<0xA9>"));
    expect(await tokenizer.encode("a", { addSpecialTokens: true })).toEqual(idsOf("<s>", "\u2581", "a"));
    expect(tokenizer.decode(idsOf("<s>", "\u2581ab", "\u2581", "<0xC3>", "<0xA9>", "</s>"))).toBe("ab \u00e9");
    // A user-defined token is one token, but text.
    expect(tokenizer.decode(await tokenizer.encode("a<extra>"))).toBe("a<extra>");
    expect([tokenizer.padTokenId, tokenizer.endOfTurnTokenId]).toEqual([0, 2]);
  });

  test("the configuration is what tokenizer_config.json would say", () => {
    expect(ggufTokenizerParts(SENTENCE_PIECE, "x.gguf").config).toMatchObject({
      add_bos_token: true,
      bos_token: "<s>",
      eos_token: "</s>",
      unk_token: "<unk>",
      pad_token: undefined,
      model_max_length: 64,
    });
  });

  test("a base model gets the built-in template with bos, and streams words with their spaces", async () => {
    const tokenizer = await Tokenizer.fromParts(ggufTokenizerParts(SENTENCE_PIECE, "x.gguf"));
    expect(tokenizer.render([{ role: "user", content: "a" }])).toBe("<s>\n\nHuman: a");
    const stream = tokenizer.streamDecoder();
    const ids = idsOf("\u2581ab", "\u2581", "</s>", "\u2581ab", "<0xC3>", "<0xA9>");
    expect([...ids.map((id) => stream.push(id)), stream.end()]).toEqual(["ab", " ", "", " ab", "", "\u00e9", ""]);
  });

  test("no space is added where add_space_prefix is false", async () => {
    const parts = ggufTokenizerParts({ ...SENTENCE_PIECE, "tokenizer.ggml.add_space_prefix": false }, "x.gguf");
    const tokenizer = await Tokenizer.fromParts(parts);
    expect(await tokenizer.encode("ab")).toEqual(idsOf("ab"));
    expect(tokenizer.decode(idsOf("\u2581ab"))).toBe(" ab");
  });

  test("scores must be there for every piece", () => {
    const broken = { ...SENTENCE_PIECE, "tokenizer.ggml.scores": [0] };
    expect(() => ggufTokenizerParts(broken, "x.gguf")).toThrow(
      expect.objectContaining({ code: "E_CHECKPOINT", message: "x.gguf: tokenizer.ggml.scores: expected 14 numbers, one for each token" }),
    );
  });
});

describe("byte-level BPE", () => {
  const tokens = ["<e>", "<b>", ..."0123456789e\u0301\u00c3\u00a9\u00cc\u0123", "\u0120"];
  const metadata = (pre: string) => ({
    "general.architecture": "llama",
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": pre,
    "tokenizer.ggml.tokens": [...tokens, "12", "34", "123", "456", "\u00c3\u00a9"],
    "tokenizer.ggml.token_type": tokens.map((_, id) => (id < 2 ? 3 : 1)),
    "tokenizer.ggml.merges": ["1 2", "3 4", "12 3", "\u00c3 \u00a9"],
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
  });
  const encodeTokens = async (pre: string, text: string, addSpecialTokens = false) => {
    const tokenizer = await Tokenizer.fromParts(ggufTokenizerParts(metadata(pre), "x.gguf"));
    const names = metadata(pre)["tokenizer.ggml.tokens"];
    return (await tokenizer.encode(text, { addSpecialTokens })).map((id) => names[id]);
  };

  test("gpt-2 merges numbers, smollm and qwen2 split them into digits, falcon and default into groups of three", async () => {
    // "1 2" and "3 4" are merged before "12 3" can be.
    expect(await encodeTokens("gpt-2", "1234")).toEqual(["12", "34"]);
    expect(await encodeTokens("default", "1234")).toEqual(["123", "4"]);
    expect(await encodeTokens("falcon", "1234")).toEqual(["123", "4"]);
    expect(await encodeTokens("stablelm2", "1234")).toEqual(["1", "2", "3", "4"]);
    expect(await encodeTokens("bloom", "1234")).toEqual(["12", "34"]);
    expect(await encodeTokens("smollm", "1234")).toEqual(["1", "2", "3", "4"]);
    expect(await encodeTokens("qwen2", "1234")).toEqual(["1", "2", "3", "4"]);
  });

  test("llama-bpe has groups of three digits, takes whole words without merges, and starts with bos", async () => {
    expect(await encodeTokens("llama-bpe", "123456")).toEqual(["123", "456"]);
    expect(await encodeTokens("llama-bpe", "12", true)).toEqual(["<b>", "12"]);
    expect(await encodeTokens("gpt-2", "456")).toEqual(["4", "5", "6"]);
    expect(await encodeTokens("gpt-2", "12", true)).toEqual(["12"]);
  });

  test("qwen2 composes characters first", async () => {
    // e + combining acute is U+00E9, bytes C3 A9, which byte-level BPE writes as these two characters.
    expect(await encodeTokens("qwen2", "e\u0301")).toEqual(["\u00c3\u00a9"]);
    expect((await encodeTokens("gpt-2", "e\u0301"))[0]).toBe("e");
  });

  test("an unknown pre-tokenizer or model is refused by name", () => {
    const error = { name: "ConfigError", code: "E_CONFIG" };
    expect(() => ggufTokenizerParts(metadata("chameleon"), "x.gguf")).toThrow(
      expect.objectContaining({
        ...error,
        message: expect.stringContaining('x.gguf: pre-tokenizer "chameleon" is not supported, expected one of gpt-2, phi-2'),
      }),
    );
    expect(() => ggufTokenizerParts({ ...metadata("gpt-2"), "tokenizer.ggml.model": "bert" }, "x.gguf")).toThrow(
      expect.objectContaining({ ...error, message: expect.stringContaining('tokenizer.ggml.model "bert" is not supported') }),
    );
  });

  test("missing lists are refused by name", () => {
    expect(() => ggufTokenizerParts({ "tokenizer.ggml.model": "gpt2" }, "x.gguf")).toThrow(
      expect.objectContaining({
        code: "E_CHECKPOINT",
        message: "x.gguf: tokenizer.ggml.tokens: expected a list of strings, found nothing",
      }),
    );
  });
});

test("a file that is not there is refused", async () => {
  await expect(readGgufTokenizer(`${temporaryFolder()}/none.gguf`)).rejects.toMatchObject({
    name: "CheckpointError",
    code: "E_CHECKPOINT",
    message: expect.stringMatching(/none\.gguf: cannot be read as a GGUF file: ENOENT/),
  });
});
