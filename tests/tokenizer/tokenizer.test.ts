import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Message } from "../../src/tokenizer/message.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { CHATML_FOLDER, chatmlParts, temporaryFolder } from "./fixture.ts";

const chatml = await Tokenizer.load(CHATML_FOLDER);

// Ids of the fixture: <|endoftext|> 0, <|im_start|> 1, <|im_end|> 2.
const END_OF_TEXT = 0;
const IM_START = 1;
const IM_END = 2;

/** Ids that Python's `tokenizers` 0.23.3 gives with the same tokenizer.json. */
const PYTHON_IDS: readonly (readonly [string, readonly number[]])[] = [
  ["The user asks a question.", [54, 259, 333, 85, 266, 260, 85, 393, 260, 223, 83, 327, 283, 391, 16]],
  ["don't stop: 456 eggs", [376, 307, 263, 86, 81, 82, 28, 223, 22, 23, 24, 350, 85]],
  ["caf\u00e9 \u{1F600}\n\n  two", [69, 67, 382, 105, 223, 175, 256, 249, 225, 201, 201, 223, 261, 89, 81]],
  ["<|im_start|>user\nHi<|im_end|>\n", [1, 87, 85, 266, 201, 42, 75, 2, 201]],
  ["", []],
];

const text = fc.string({ unit: "grapheme", maxLength: 30 });

describe("encode and decode", () => {
  test.each(PYTHON_IDS)("encodes %j as Python's tokenizers does", async (input, ids) => {
    expect(await chatml.encode(input)).toEqual(ids);
  });

  test("a batch gives each text's ids", async () => {
    expect(await chatml.encodeBatch(PYTHON_IDS.map(([input]) => input))).toEqual(PYTHON_IDS.map(([, ids]) => ids));
  });

  test("decode gives the text back", async () => {
    const property = fc.asyncProperty(text, async (input) => {
      expect(chatml.decode(await chatml.encode(input))).toBe(input);
    });
    await fc.assert(property);
  });

  test("decode leaves special tokens out unless asked", async () => {
    const ids = await chatml.encode("<|im_start|>user\nHi<|im_end|>\n");
    expect(chatml.decode(ids)).toBe("user\nHi\n");
    expect(chatml.decode(ids, { skipSpecialTokens: false })).toBe("<|im_start|>user\nHi<|im_end|>\n");
  });

  test("ids outside the vocabulary have no text", () => {
    expect(chatml.vocabSize).toBe(400);
    expect(chatml.decode([54, 400, 259])).toBe(chatml.decode([54, 259]));
  });

  test("cutting and filling that tokenizer.json asks for are switched off", async () => {
    const parts = chatmlParts();
    const json = JSON.parse(parts.tokenizerJson) as object;
    const truncation = { direction: "Right", max_length: 3, strategy: "LongestFirst", stride: 0 };
    const padding = { strategy: { Fixed: 20 }, direction: "Right", pad_to_multiple_of: null, pad_id: 0, pad_type_id: 0, pad_token: "x" };
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify({ ...json, truncation, padding }) });
    expect(await tokenizer.encode("The user asks a question.")).toEqual(PYTHON_IDS[0]?.[1]);
  });

  test("a token with a role is one token even where tokenizer.json does not list it as added", async () => {
    const parts = chatmlParts();
    const json = JSON.parse(parts.tokenizerJson) as { added_tokens: { id: number }[] };
    json.added_tokens = json.added_tokens.filter(({ id }) => id !== IM_END);
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json) });
    expect(await tokenizer.encode("The<|im_end|>")).toEqual([54, 259, IM_END]);
    expect(tokenizer.decode([54, 259, IM_END])).toBe("The");
  });

  test("addSpecialTokens runs the checkpoint's post-processor", async () => {
    const parts = chatmlParts();
    const json = JSON.parse(parts.tokenizerJson) as object;
    const single = [{ SpecialToken: { id: "<|im_start|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    const special_tokens = { "<|im_start|>": { id: "<|im_start|>", ids: [IM_START], tokens: ["<|im_start|>"] } };
    const post_processor = { type: "TemplateProcessing", single, pair: single, special_tokens };
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify({ ...json, post_processor }) });
    expect(await tokenizer.encode("The", { addSpecialTokens: true })).toEqual([IM_START, 54, 259]);
    expect(await tokenizer.encode("The")).toEqual([54, 259]);
  });
});

test("the library's own threads are off unless the user says otherwise", () => {
  expect(process.env["TOKENIZERS_PARALLELISM"]).toBe("false");
});

describe("pad", () => {
  test("fills on the right by default and marks what counts", () => {
    expect(chatml.pad([[5, 6, 7], [8], []])).toEqual({
      tokens: [
        [5, 6, 7],
        [8, END_OF_TEXT, END_OF_TEXT],
        [END_OF_TEXT, END_OF_TEXT, END_OF_TEXT],
      ],
      attentionMask: [
        [1, 1, 1],
        [1, 0, 0],
        [0, 0, 0],
      ],
    });
  });

  test("takes the side from the configuration, and from the call before that", async () => {
    const left = await Tokenizer.fromParts(chatmlParts({ padding_side: "left" }));
    expect(left.pad([[5, 6], [8]])).toEqual({
      tokens: [
        [5, 6],
        [END_OF_TEXT, 8],
      ],
      attentionMask: [
        [1, 1],
        [0, 1],
      ],
    });
    expect(left.pad([[5, 6], [8]], { side: "right" }).tokens).toEqual([
      [5, 6],
      [8, END_OF_TEXT],
    ]);
  });
});

describe("padding token", () => {
  test("is not the configured one where that ends a turn, but unk", () => {
    // The fixture says pad_token = eos_token = <|im_end|>.
    expect(chatml.eosTokenId).toBe(IM_END);
    expect(chatml.endOfTurnTokenId).toBe(IM_END);
    expect(chatml.padTokenId).toBe(END_OF_TEXT);
  });

  test("is the configured one where that ends nothing", async () => {
    const tokenizer = await Tokenizer.fromParts(
      chatmlParts({ pad_token: { content: "<|im_start|>", lstrip: false }, bos_token: undefined }),
    );
    expect(tokenizer.padTokenId).toBe(IM_START);
  });

  test("is not the end of turn where that differs from eos", async () => {
    const tokenizer = await Tokenizer.fromParts(chatmlParts({ eos_token: "<|endoftext|>" }));
    expect([tokenizer.eosTokenId, tokenizer.endOfTurnTokenId, tokenizer.padTokenId]).toEqual([END_OF_TEXT, IM_END, IM_START]);
  });

  test("a special token with pad in its text goes before unk", async () => {
    const parts = chatmlParts();
    const json = JSON.parse(parts.tokenizerJson) as { added_tokens: object[] };
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    json.added_tokens.push({ id: 400, content: "<|right_pad|>", ...flags });
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json) });
    expect(tokenizer.padTokenId).toBe(400);
  });

  test("is an ordinary token where every special token ends something, and stays one", async () => {
    const parts = chatmlParts({ bos_token: undefined, unk_token: undefined });
    const json = JSON.parse(parts.tokenizerJson) as { added_tokens: { id: number }[]; model: { vocab: Record<string, number> } };
    json.added_tokens = json.added_tokens.filter(({ id }) => id === IM_END);
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json) });
    expect(tokenizer.padTokenId).toBe(399); // the last of 400
    const folder = temporaryFolder();
    await tokenizer.save(folder);
    writeFileSync(join(folder, "config.json"), JSON.stringify({ pad_token_id: 399 })); // as a reward model is saved
    const loaded = await Tokenizer.load(folder);
    const text = Object.keys(json.model.vocab).find((token) => json.model.vocab[token] === 399) ?? "";
    expect(loaded.padTokenId).toBe(399);
    expect(loaded.decode([399, IM_END])).toBe(tokenizer.decode([399]));
    expect(loaded.decode([399])).not.toBe("");
    expect(await loaded.encode(`a${text}b`)).toEqual(await chatml.encode(`a${text}b`));
  });
});

describe("conversations", () => {
  const question: Message = { role: "user", content: "Hi" };
  const answer: Message = { role: "assistant", content: "Yes" };
  const turn = fc.tuple(text, text).map(([user, assistant]): Message[] => [
    { role: "user", content: user },
    { role: "assistant", content: assistant },
  ]);

  test("the default system prompt is in the prompt, and the mask is true on the answer and its end", async () => {
    const { tokens, assistantMask } = await chatml.encodeConversation([question, answer]);
    const prompt = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    expect(chatml.decode(tokens, { skipSpecialTokens: false })).toBe(`${prompt}Yes<|im_end|>`);
    const answerTokens = [...(await chatml.encode("Yes")), IM_END];
    expect(tokens.filter((_, index) => assistantMask[index])).toEqual(answerTokens);
    expect(assistantMask.lastIndexOf(false)).toBe(tokens.length - answerTokens.length - 1);
    expect(await chatml.encodePrompt([question])).toEqual(await chatml.encode(prompt));
  });

  test("a prompt is the first part of every conversation that goes on from it", async () => {
    const property = fc.asyncProperty(fc.array(turn, { maxLength: 3 }), text, text, async (turns, user, assistant) => {
      const messages: Message[] = [...turns.flat(), { role: "user", content: user }];
      const prompt = await chatml.encodePrompt(messages);
      const { tokens, assistantMask } = await chatml.encodeConversation([...messages, { role: "assistant", content: assistant }]);
      expect(tokens.slice(0, prompt.length)).toEqual(prompt);
      expect(tokens.slice(prompt.length)).toEqual([...(await chatml.encode(assistant)), IM_END]);
      expect(assistantMask).toHaveLength(tokens.length);
      const answers = [...turns.map((pair) => pair[1]?.content ?? ""), assistant];
      const marked = tokens.filter((_, index) => assistantMask[index]);
      expect(chatml.decode(marked, { skipSpecialTokens: false })).toBe(answers.map((content) => `${content}<|im_end|>`).join(""));
    });
    await fc.assert(property, { numRuns: 50 });
  });

  test("an answer never merges with the prompt before it", async () => {
    // With a token for two line breaks, the prompt's last line break and the answer's first would become one.
    const parts = chatmlParts();
    const json = JSON.parse(parts.tokenizerJson) as { model: { vocab: Record<string, number>; merges: [string, string][] } };
    json.model.vocab["\u010a\u010a"] = 400;
    json.model.merges.push(["\u010a", "\u010a"]);
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json) });
    const messages: Message[] = [question, { role: "assistant", content: "\n\n\nYes" }];
    const { tokens } = await tokenizer.encodeConversation(messages);
    const lineBreak = 201;
    const expected = [lineBreak, 400, lineBreak, ...(await tokenizer.encode("Yes")), IM_END];
    expect(tokens.slice(-expected.length)).toEqual(expected);
    expect(await tokenizer.encode(tokenizer.render(messages).trimEnd())).not.toEqual(tokens);
  });

  test("must end with an assistant's turn", async () => {
    const error = { name: "ConfigError", code: "E_CONFIG" };
    await expect(chatml.encodeConversation([answer, question])).rejects.toMatchObject({
      ...error,
      message: "conversation: cannot be encoded: it ends with a user message, expected an assistant message at the end",
    });
    await expect(chatml.encodeConversation([])).rejects.toMatchObject({ ...error, message: expect.stringContaining("it has no messages") });
  });

  test("a SentencePiece tokenizer does not double the space that an answer starts with", async () => {
    // Six entries: a text is U+2581 plus itself. "A:" then " a</s>" is "_A:_a</s>" encoded at once: the second space is not new.
    const vocab = Object.fromEntries(["<unk>", "<s>", "</s>", "\u2581", "A", ":", "a"].map((entry, id) => [entry, id]));
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    const tokenizerJson = JSON.stringify({
      version: "1.0",
      added_tokens: ["<unk>", "<s>", "</s>"].map((content, id) => ({ id, content, ...flags })),
      normalizer: {
        type: "Sequence",
        normalizers: [
          { type: "Prepend", prepend: "\u2581" },
          { type: "Replace", pattern: { String: " " }, content: "\u2581" },
        ],
      },
      model: { type: "BPE", vocab, merges: [], unk_token: "<unk>" },
    });
    const chatTemplate = "{% for m in messages %}{{ m.content if m.role == 'user' else ' ' + m.content + '</s>' }}{% endfor %}";
    const config = { eos_token: "</s>", unk_token: "<unk>" };
    const tokenizer = await Tokenizer.fromParts({ tokenizerJson, config, chatTemplate });
    const conversation: Message[] = [
      { role: "user", content: "A:" },
      { role: "assistant", content: "a" },
    ];
    expect((await tokenizer.encodeConversation(conversation)).tokens).toEqual(await tokenizer.encode("A: a</s>"));
  });
});

describe("streamDecoder", () => {
  test("holds a character back until all its bytes are there", async () => {
    const ids = await chatml.encode("a\u{1F600}b");
    const stream = chatml.streamDecoder();
    const pieces = ids.map((id) => stream.push(id));
    // The emoji has four bytes; the vocabulary has no merge for them, as the Python ids above show.
    expect(pieces).toEqual(["a", "", "", "", "\u{1F600}", "b"]);
    expect(stream.end()).toBe("");
  });

  test("gives incomplete bytes as U+FFFD at the end", async () => {
    const ids = await chatml.encode("\u{1F600}");
    const stream = chatml.streamDecoder();
    expect(ids.slice(0, 2).map((id) => stream.push(id))).toEqual(["", ""]);
    // The first two of four bytes are one broken character.
    expect(stream.end()).toBe("\uFFFD");
    expect(stream.end()).toBe("");
  });

  test("joined, the pieces are what decode gives, for any tokens", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 399 }), { maxLength: 40 }), (ids) => {
        const stream = chatml.streamDecoder();
        expect(ids.map((id) => stream.push(id)).join("") + stream.end()).toBe(chatml.decode(ids));
      }),
    );
  });
});

describe("save", () => {
  test("what is saved loads as the same tokenizer, with the padding token that is used", async () => {
    const folder = join(temporaryFolder(), "new");
    await chatml.save(folder);
    const loaded = await Tokenizer.load(folder);
    for (const key of ["vocabSize", "bosTokenId", "eosTokenId", "padTokenId", "endOfTurnTokenId", "paddingSide", "chatTemplate"] as const) {
      expect(loaded[key]).toBe(chatml[key]);
    }
    const messages: Message[] = [
      { role: "user", content: "Hi" },
      { role: "assistant", content: "Yes 456" },
    ];
    expect(await loaded.encodeConversation(messages)).toEqual(await chatml.encodeConversation(messages));
    const config = JSON.parse(readFileSync(join(folder, "tokenizer_config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toMatchObject({ pad_token: "<|endoftext|>", model_max_length: 256, chat_template: chatml.chatTemplate });
    expect(JSON.parse(readFileSync(join(folder, "special_tokens_map.json"), "utf8"))).toEqual({
      bos_token: "<|im_start|>",
      eos_token: "<|im_end|>",
      pad_token: "<|endoftext|>",
      unk_token: "<|endoftext|>",
    });
    expect(readFileSync(join(folder, "tokenizer.json"), "utf8")).toBe(chatmlParts().tokenizerJson);
  });

  test("the built-in template is saved with a checkpoint that had none", async () => {
    const folder = temporaryFolder();
    const plain = await Tokenizer.fromParts(chatmlParts({ chat_template: undefined }));
    await plain.save(folder);
    expect(readFileSync(join(folder, "chat_template.jinja"), "utf8")).toBe(plain.chatTemplate);
    expect((await Tokenizer.load(folder)).chatTemplate).toBe(plain.chatTemplate);
  });
});

describe("load", () => {
  test("takes end tokens from special_tokens_map.json, then generation_config.json, then config.json", async () => {
    const folder = temporaryFolder();
    copyFileSync(join(CHATML_FOLDER, "tokenizer.json"), join(folder, "tokenizer.json"));
    const write = (name: string, value: object) => writeFileSync(join(folder, name), JSON.stringify(value));
    write("config.json", { eos_token_id: 1, pad_token_id: 0, bos_token_id: 1 });
    expect((await Tokenizer.load(folder)).eosTokenId).toBe(IM_START);
    write("generation_config.json", { eos_token_id: [2, 0] });
    const tokenizer = await Tokenizer.load(folder);
    expect([tokenizer.eosTokenId, tokenizer.padTokenId, tokenizer.bosTokenId]).toEqual([IM_END, END_OF_TEXT, IM_START]);
    write("special_tokens_map.json", { eos_token: { content: "<|endoftext|>" } });
    expect((await Tokenizer.load(folder)).eosTokenId).toBe(END_OF_TEXT);
  });

  test("chat_template.jinja goes before tokenizer_config.json", async () => {
    const folder = temporaryFolder();
    await chatml.save(folder);
    writeFileSync(join(folder, "chat_template.jinja"), "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}");
    expect((await Tokenizer.load(folder)).endOfTurnTokenId).toBe(END_OF_TEXT);
  });

  test("a folder without tokenizer.json is refused, and so is a path that is not there", async () => {
    const folder = temporaryFolder();
    const error = { name: "CheckpointError", code: "E_CHECKPOINT" };
    await expect(Tokenizer.load(folder)).rejects.toMatchObject({
      ...error,
      message: expect.stringContaining("the folder has no tokenizer.json"),
    });
    await expect(Tokenizer.load(join(folder, "x"))).rejects.toMatchObject({
      ...error,
      message: expect.stringContaining("there is no such folder"),
    });
  });

  test("malformed files are refused by name", async () => {
    const folder = temporaryFolder();
    const error = { name: "CheckpointError", code: "E_CHECKPOINT" };
    writeFileSync(join(folder, "tokenizer.json"), '{"version": "1.0"}');
    await expect(Tokenizer.load(folder)).rejects.toMatchObject({
      ...error,
      message: expect.stringContaining("cannot load tokenizer.json"),
    });
    writeFileSync(join(folder, "tokenizer_config.json"), "{");
    await expect(Tokenizer.load(folder)).rejects.toMatchObject({
      ...error,
      message: expect.stringMatching(/tokenizer_config\.json: is not JSON/),
    });
    writeFileSync(join(folder, "tokenizer_config.json"), "[]");
    await expect(Tokenizer.load(folder)).rejects.toMatchObject({
      ...error,
      message: expect.stringMatching(/expected a JSON object, found an array/),
    });
    mkdirSync(join(folder, "special_tokens_map.json"));
    writeFileSync(join(folder, "tokenizer_config.json"), "{}");
    await expect(Tokenizer.load(folder)).rejects.toMatchObject({
      ...error,
      message: expect.stringMatching(/special_tokens_map\.json: cannot be read: EISDIR/),
    });
  });

  test("a special token that the vocabulary does not have is refused", async () => {
    const error = { name: "CheckpointError", code: "E_CHECKPOINT" };
    await expect(Tokenizer.fromParts(chatmlParts({ pad_token: "[PAD]" }), "here")).rejects.toMatchObject({
      ...error,
      message: 'here: pad_token is "[PAD]", which is not in the vocabulary; correct tokenizer_config.json',
    });
    await expect(Tokenizer.fromParts(chatmlParts({ eos_token: undefined, eos_token_id: 400 }), "here")).rejects.toMatchObject({
      ...error,
      message: expect.stringContaining("eos_token_id is 400"),
    });
  });

  test("a tokenizer without an end token is refused", async () => {
    await expect(Tokenizer.fromParts(chatmlParts({ eos_token: null }), "here")).rejects.toMatchObject({
      name: "ConfigError",
      code: "E_CONFIG",
      message: 'here: the tokenizer names no end token; add "eos_token" to tokenizer_config.json',
    });
  });
});
