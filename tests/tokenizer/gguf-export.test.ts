import { describe, expect, test } from "vitest";
import { ggufTokenizerMetadata } from "../../src/tokenizer/gguf-export.ts";
import { scoresFromMerges } from "../../src/tokenizer/gguf-merges.ts";
import { ggufTokenizerParts } from "../../src/tokenizer/gguf-tokenizer.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { failure } from "../failure.ts";
import { chatmlParts } from "./fixture.ts";

const ROWS = 404; // of a table that is larger than the vocabulary

/** The fixture's tokenizer with other parts of `tokenizer.json`. */
function changed(changes: Readonly<Record<string, unknown>>) {
  const parts = chatmlParts();
  return { ...parts, tokenizerJson: JSON.stringify({ ...(JSON.parse(parts.tokenizerJson) as object), ...changes }) };
}

describe("byte-level BPE", () => {
  test("comes back from the metadata as it was", async () => {
    const parts = chatmlParts(), metadata = ggufTokenizerMetadata(parts, ROWS, "folder");
    expect(metadata).toMatchObject({
      "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.add_bos_token": false, "tokenizer.chat_template": parts.config["chat_template"],
    });
    const types = metadata["tokenizer.ggml.token_type"] as Int32Array, tokens = metadata["tokenizer.ggml.tokens"] as string[];
    // Control tokens, words, and rows that no token has.
    expect([types[2], types[50], types[403], tokens[403]]).toEqual([3, 1, 5, "[PAD403]"]);
    const [original, again] = [await Tokenizer.fromParts(parts), await Tokenizer.fromParts(ggufTokenizerParts(metadata, "x.gguf"))];
    expect(again.vocabSize).toBe(original.vocabSize);
    for (const text of ["The user asks 456 questions.", "caf\u00e9 \u{1F600}\n\n  two", "<|im_start|>user\nHi<|im_end|>\n"]) {
      expect(await again.encode(text)).toEqual(await original.encode(text));
    }
  });

  test("a pre-tokenizer that llama.cpp has no name for is refused, and shown", () => {
    const own = { type: "Split", pattern: { Regex: "x+" }, behavior: "Isolated", invert: false };
    const parts = changed({ pre_tokenizer: { type: "Sequence", pretokenizers: [own, { type: "ByteLevel", use_regex: false }] } });
    expect(failure(() => ggufTokenizerMetadata(parts, ROWS, "folder"))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: expect.stringMatching(/^folder: llama\.cpp has no name for this tokenizer's pre-tokenizer, .*"x\+".*cannot be exported/),
    });
  });

  test("other kinds of tokenizers, too small tables and unknown roles are refused", () => {
    expect(failure(() => ggufTokenizerMetadata(changed({ model: { type: "Unigram", vocab: [] } }), ROWS, "folder")).message).toBe(
      'folder: a tokenizer of type "Unigram" cannot be exported to GGUF, expected "BPE"',
    );
    expect(failure(() => ggufTokenizerMetadata(chatmlParts(), 100, "folder")).message).toMatch(
      /is number 1\d\d, the model's token table has 100 rows$/,
    );
    expect(failure(() => ggufTokenizerMetadata(chatmlParts({ eos_token: "<none>" }), ROWS, "folder")).message).toBe(
      'folder: eos_token is "<none>", which is not in the vocabulary',
    );
  });
});

describe("SentencePiece", () => {
  const vocab = ["<unk>", "<s>", "</s>", "<0x63>", "\u2581", "a", "b", "c", "ab", "bc", "\u2581ab", "\u2581\u2581"];
  const tokenizer = {
    version: "1.0",
    added_tokens: [0, 1, 2, 11].map((id) => ({ id, content: vocab[id], special: id < 3, normalized: false })),
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "Prepend", prepend: "\u2581" }, { type: "Replace", pattern: { String: " " }, content: "\u2581" }],
    },
    pre_tokenizer: null, post_processor: null, decoder: null,
    model: {
      type: "BPE", byte_fallback: true, fuse_unk: true, unk_token: "<unk>",
      vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
      merges: [["b", "c"], ["a", "b"], ["\u2581", "ab"]],
    },
  };
  const config = { bos_token: { content: "<s>" }, eos_token: "</s>", unk_token: "<unk>", add_bos_token: true };

  test("has scores in the order of the merges, and the types of its pieces", async () => {
    const metadata = ggufTokenizerMetadata({ tokenizerJson: JSON.stringify(tokenizer), config }, 12, "folder");
    expect(metadata).toMatchObject({
      "tokenizer.ggml.model": "llama", "tokenizer.ggml.add_space_prefix": true, "tokenizer.ggml.add_bos_token": true,
      "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.unknown_token_id": 0,
    });
    // bc is merged first, then ab, then _ab; single characters (3 merges) come last.
    expect([...(metadata["tokenizer.ggml.scores"] as Float32Array)]).toEqual([-1000, -1000, -1000, 0, -3, -3, -3, -3, -1, -0, -2, -1000]);
    expect([...(metadata["tokenizer.ggml.token_type"] as Int32Array)]).toEqual([3, 3, 3, 6, 1, 1, 1, 1, 1, 1, 1, 4]);
    // llama.cpp looks for user-defined tokens in the text, where a space is a space.
    expect((metadata["tokenizer.ggml.tokens"] as string[])[11]).toBe("  ");
    const again = await Tokenizer.fromParts(ggufTokenizerParts(metadata, "x.gguf"));
    expect(await again.encode("abc")).toEqual([4, 5, 9]);
    expect(await again.encode("ab")).toEqual([10]);
  });

  test("merges that no scores can order are refused", () => {
    // "abc" is made both before and after "ab": its pieces would need two scores.
    expect(scoresFromMerges(["a", "b", "c", "ab", "bc", "abc"], [["b", "c"], ["a", "bc"], ["a", "b"], ["ab", "c"]])).toBeUndefined();
    expect(scoresFromMerges(["a", "b", "ab"], [["a", "b"]])).toEqual(Float32Array.of(-1, -1, -0));
  });
});
