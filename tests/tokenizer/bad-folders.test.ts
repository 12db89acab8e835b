import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { rejection } from "../failure.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { unpackFixture } from "./fixture-folders.ts";

type Files = Readonly<Record<string, string | object | Uint8Array>>;

interface BadFolder {
  /** What is wrong. */
  title: string;
  /** A fixture to begin with. */
  from?: string;
  without?: readonly string[];
  files?: Files;
  code: "E_CHECKPOINT" | "E_CONFIG";
  message: RegExp;
}

const CONVERT = /AutoTokenizer\.from_pretrained\("<folder>"\)\.save_pretrained\("<folder>"\)/.source;

/** A varint or a byte string of a protobuf message. */
function field(number: number, value: number | string | Uint8Array): Buffer {
  if (typeof value === "number") return Buffer.concat([varint(number * 8), varint(value)]);
  const bytes = Buffer.from(value);
  return Buffer.concat([varint(number * 8 + 2), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) + 128);
  }
}

/** A SentencePiece model of one piece with these fields in its trainer and normalizer. */
function spm(trainer: Uint8Array, normalizer: Uint8Array = Buffer.alloc(0), pieceType = 1): Buffer {
  const piece = Buffer.concat([field(1, "a"), field(3, pieceType)]);
  return Buffer.concat([field(1, piece), field(2, trainer), field(3, normalizer)]);
}

const LLAMA = { "tokenizer_config.json": { tokenizer_class: "LlamaTokenizer" } };
const BPE = field(3, 2);

const badFolders: BadFolder[] = [
  { title: "nothing", code: "E_CHECKPOINT",
  message: /cannot load a tokenizer: the folder has no tokenizer\.json; give a model folder with/ },
  {
    title: "files of a kind that is not read", files: { "tekken.json": "{}", "qwen.tiktoken": "" }, code: "E_CHECKPOINT",
    message: new RegExp(`no tokenizer\\.json \\(found qwen\\.tiktoken, tekken\\.json\\); .*${CONVERT}`),
  },
  {
    title: "vocab.json without merges.txt", from: "gpt2", without: ["merges.txt"], code: "E_CHECKPOINT",
    message: /no tokenizer\.json \(found tokenizer_config\.json, vocab\.json\)/,
  },
  {
    title: "a tokenizer.json that is cut off", from: "minilm", files: { "tokenizer.json": '{"version": "1.0", "model"' },
    code: "E_CHECKPOINT",
    message: /: is not JSON: /,
  },
  {
    title: "a tokenizer.json that is a web page", from: "minilm", files: { "tokenizer.json": "<!doctype html>" }, code: "E_CHECKPOINT",
    message: /: is not JSON: /,
  },
  {
    title: "a model that the library does not know", from: "minilm", code: "E_CHECKPOINT", message: /cannot load tokenizer\.json: /,
    files: { "tokenizer.json": { version: "1.0", added_tokens: [], model: { type: "Morphemes", vocab: {} } } },
  },
  {
    title: "vocabulary and merges of two tokenizers", from: "gpt2", files: { "merges.txt": "#version: 0.2\n\u0120 t\nzz qq\n" },
    code: "E_CHECKPOINT",
    message: /merges\.txt: line 3: "zz" is not in vocab\.json; the files do not belong together/,
  },
  {
    title: "a merge of three", from: "gpt2", files: { "merges.txt": "#version: 0.2\na b c\n" }, code: "E_CHECKPOINT",
    message: /merges\.txt: line 2: expected two tokens with a space between them, found "a b c"/,
  },
  {
    title: "a token whose id is no number", from: "gpt2", files: { "vocab.json": { a: "0" } }, code: "E_CHECKPOINT",
    message: /vocab\.json: "a": expected a token id, found "0"/,
  },
  {
    title: "a class of vocab.json and merges.txt that is not known", from: "gpt2",
    files: { "tokenizer_config.json": { tokenizer_class: "CLIPTokenizer" } },
    code: "E_CONFIG", message: new RegExp(`its class is "CLIPTokenizer", expected one of GPT2Tokenizer, .*${CONVERT}`),
  },
  {
    title: "a vocab.txt that is not BERT's", from: "bert", files: { "tokenizer_config.json": { tokenizer_class: "EsmTokenizer" } },
    code: "E_CONFIG", message: /its class is "EsmTokenizer", expected one of BertTokenizer/,
  },
  {
    title: "a tokenizer in Python", code: "E_CONFIG",
    message: new RegExp(`is Python code \\(tokenization_x\\.py\\), which is not run, .*${CONVERT}`),
    files: {
      "tokenizer_config.json": { auto_map: { AutoTokenizer: ["tokenization_x.X", null] } }, "tokenization_x.py": "", "tokenizer.model": "",
    },
  },
  {
    title: "a tiktoken vocabulary (Llama 3's original folder)", files: { ...LLAMA, "tokenizer.model": "IQ== 0\nIg== 1\n" },
    code: "E_CHECKPOINT",
    message: /the file is a tiktoken vocabulary .*take the tokenizer\.json of the model's Hugging Face folder/,
  },
  {
    title: "tekken as tokenizer.model", files: { ...LLAMA, "tokenizer.model": '{"config": {"pattern": ""}}' }, code: "E_CHECKPOINT",
    message: /the file is JSON \(Mistral's tekken\), expected a SentencePiece model/,
  },
  {
    title: "a pointer of Git LFS", files: { ...LLAMA, "tokenizer.model": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n" },
    code: "E_CHECKPOINT", message: /the file is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull/,
  },
  {
    title: "a SentencePiece model that is cut off", files: { ...LLAMA, "tokenizer.model": spm(BPE).subarray(0, 6) }, code: "E_CHECKPOINT",
    message: /tokenizer\.model: is not a SentencePiece model: its bytes are no message of that format/,
  },
  {
    title: "a SentencePiece model of words", files: { ...LLAMA, "tokenizer.model": spm(field(3, 3)) }, code: "E_CONFIG",
    message: new RegExp(`cannot be used: it is neither BPE nor Unigram; .*${CONVERT}`),
  },
  {
    title: "a SentencePiece model with spaces as suffixes", files: { ...LLAMA, "tokenizer.model": spm(Buffer.concat([BPE, field(24, 1)])) },
    code: "E_CONFIG", message: /it writes spaces at the end of pieces/,
  },
  {
    title: "a SentencePiece model that keeps spaces", files: { ...LLAMA, "tokenizer.model": spm(BPE, field(5, 0)) }, code: "E_CONFIG",
    message: /it does not replace spaces/,
  },
  {
    title: "a SentencePiece model with unused pieces", files: { ...LLAMA, "tokenizer.model": spm(BPE, undefined, 5) }, code: "E_CONFIG",
    message: /it has pieces that are marked as unused/,
  },
  {
    title: "a class of tokenizer.model that is not known", from: "spm-llama",
    code: "E_CONFIG", message: /class is "XLNetTokenizer", expected one of/,
    files: { "tokenizer_config.json": { tokenizer_class: "XLNetTokenizer" } },
  },
  {
    title: "an added token of another tokenizer", from: "smollm2", code: "E_CHECKPOINT",
    message: /tokenizer_config\.json says that "<\|x\|>" is token 90000, but it is \d+: the ids of added tokens/,
    files: { "tokenizer_config.json": { eos_token: "<|endoftext|>", added_tokens_decoder: { 90000: { content: "<|x|>" } } } },
  },
  {
    title: "an added token without text", from: "smollm2",
    code: "E_CHECKPOINT", message: /an added token has no text: found \{"special":true\}/,
    files: { "tokenizer_config.json": { eos_token: "<|endoftext|>", added_tokens_decoder: { 5: { special: true } } } },
  },
  {
    title: "an added token whose id is no number", from: "spm-llama",
    code: "E_CHECKPOINT", message: /added_tokens\.json: "<x>": expected a token id, found "7"/,
    files: { "added_tokens.json": { "<x>": "7" } },
  },
  {
    title: "more tokens than the model has", from: "smollm2", files: { "config.json": { vocab_size: 1000 } }, code: "E_CHECKPOINT",
    message: /the tokenizer has \d+ tokens, the model's vocabulary \("vocab_size" in config\.json\) ends at 999; take the tokenizer/,
  },
  {
    title: "an end token behind the model's", from: "qwen2", files: { "config.json": { vocab_size: 1756 } }, code: "E_CHECKPOINT",
    message: /<\|endoftext\|> is token 1756, the model's vocabulary .* ends at 1755/,
  },
];

function write(folder: string, files: Files): void {
  for (const [name, content] of Object.entries(files)) {
    const isText = typeof content === "string" || content instanceof Uint8Array;
    writeFileSync(join(folder, name), isText ? content : JSON.stringify(content));
  }
}

describe("a folder with", () => {
  test.each(badFolders)("$title is refused", async ({ from, without = [], files = {}, code, message }) => {
    const folder = temporaryFolder();
    if (from !== undefined) unpackFixture(from, folder);
    for (const file of without) rmSync(join(folder, file));
    write(folder, files);
    const name = code === "E_CONFIG" ? "ConfigError" : "CheckpointError";
    expect(await rejection(() => Tokenizer.load(folder))).toMatchObject({ name, code, message: expect.stringMatching(message) });
    expect(await rejection(() => Tokenizer.load(folder))).toMatchObject({ message: expect.stringContaining(folder) });
  });
});

test("a model may have more rows than the tokenizer has tokens, and added tokens without a role may lie behind them", async () => {
  const folder = unpackFixture("smollm2", temporaryFolder());
  const { vocabSize } = await Tokenizer.load(folder);
  write(folder, { "config.json": { vocab_size: vocabSize + 100 } });
  expect((await Tokenizer.load(folder)).vocabSize).toBe(vocabSize);
  const config = { tokenizer_class: "PreTrainedTokenizerFast", eos_token: "<|endoftext|>", additional_special_tokens: ["<image>"] };
  write(folder, { "config.json": { text_config: { vocab_size: vocabSize } }, "tokenizer_config.json": config }); // as Gemma 3's image token
  expect(await (await Tokenizer.load(folder)).encode("<image>")).toEqual([vocabSize]);
});
