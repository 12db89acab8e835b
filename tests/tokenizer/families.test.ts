import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { chatmlParts } from "./fixture.ts";
import { unpackFixture } from "./fixture-folders.ts";

/** What the folders of a family say of special tokens, and what must become of it. */
interface Family {
  name: string;
  tokens: readonly string[];
  /** `tokenizer_config.json`. */
  roles: Readonly<Record<string, string | null>>;
  /** Turns end with eos where nothing is said. */
  endOfTurn?: string;
  /** The token that pads; undefined for an ordinary one. */
  pad?: string;
}

const END = "<|endoftext|>";
const families: Family[] = [
  {
    name: "Llama 1, Llama 2, Mistral", tokens: ["<unk>", "<s>", "</s>"],
    roles: { bos_token: "<s>", eos_token: "</s>", unk_token: "<unk>", pad_token: null }, pad: "<unk>",
  },
  {
    name: "Llama 3", tokens: ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<|eot_id|>"],
    roles: { bos_token: "<|begin_of_text|>", eos_token: "<|eot_id|>" }, pad: "<|finetune_right_pad_id|>",
  },
  {
    name: "Llama 3 base", tokens: ["<|begin_of_text|>", "<|end_of_text|>"],
    roles: { bos_token: "<|begin_of_text|>", eos_token: "<|end_of_text|>" }, pad: "<|begin_of_text|>",
  },
  {
    name: "Qwen 2, 2.5, 3", tokens: [END, "<|im_start|>", "<|im_end|>"],
    roles: { bos_token: null, eos_token: "<|im_end|>", pad_token: END, unk_token: null }, pad: END,
  },
  { name: "Qwen 2 base", tokens: [END, "<|im_start|>", "<|im_end|>"], roles: { eos_token: END, pad_token: END }, pad: "<|im_start|>" },
  {
    name: "Gemma 2, 3", tokens: ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"],
    roles: { bos_token: "<bos>", eos_token: "<eos>", pad_token: "<pad>", unk_token: "<unk>" }, endOfTurn: "<end_of_turn>", pad: "<pad>",
  },
  {
    name: "Phi-3", tokens: ["<unk>", "<s>", "</s>", END, "<|assistant|>", "<|end|>"],
    roles: { bos_token: "<s>", eos_token: END, pad_token: END, unk_token: "<unk>" }, endOfTurn: "<|end|>", pad: "<unk>",
  },
  {
    name: "OPT", tokens: ["<s>", "<pad>", "</s>"],
    roles: { bos_token: "</s>", eos_token: "</s>", unk_token: "</s>", pad_token: "<pad>" }, pad: "<pad>",
  },
  {
    name: "BLOOM", tokens: ["<unk>", "<s>", "</s>", "<pad>"],
    roles: { bos_token: "<s>", eos_token: "</s>", pad_token: "<pad>", unk_token: "<unk>" }, pad: "<pad>",
  },
  { name: "GPT-2, GPT-J, GPT-Neo", tokens: [END], roles: { bos_token: END, eos_token: END, unk_token: END } },
  { name: "GPT-NeoX, Pythia", tokens: [END, "<|padding|>"], roles: { bos_token: END, eos_token: END, unk_token: END }, pad: "<|padding|>" },
  { name: "Falcon", tokens: [">>TITLE<<", ">>ABSTRACT<<", END], roles: { eos_token: END }, pad: ">>TITLE<<" },
  {
    name: "StableLM 2", tokens: [END, "<|fim_prefix|>", "<|reg_extra|>"],
    roles: { bos_token: END, eos_token: END, unk_token: END, pad_token: END }, pad: "<|fim_prefix|>",
  },
];

/** The small tokenizer with a family's special tokens in place of its own. */
async function tokenizerOf({ tokens, roles, endOfTurn }: Family): Promise<Tokenizer> {
  const { tokenizerJson } = chatmlParts();
  const json = JSON.parse(tokenizerJson) as { added_tokens: object[]; model: { vocab: Record<string, number> } };
  const flags = { special: true, lstrip: false, rstrip: false, single_word: false, normalized: false };
  for (const token of ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) {
    json.model.vocab[`(${token})`] = json.model.vocab[token] ?? 0;
    delete json.model.vocab[token];
  }
  json.added_tokens = tokens.map((content, i) => ({ id: 400 + i, content, ...flags }));
  const chatTemplate = `{% for m in messages %}{{ m.content + '${endOfTurn ?? roles["eos_token"]}' }}{% endfor %}`;
  return Tokenizer.fromParts({ tokenizerJson: JSON.stringify(json), config: { ...roles }, chatTemplate });
}

describe.each(families)("$name", (family) => {
  test("pads with a token that ends nothing", async () => {
    const tokenizer = await tokenizerOf(family);
    const text = (id: number) => tokenizer.decode([id], { skipSpecialTokens: false });
    expect(text(tokenizer.eosTokenId)).toBe(family.roles["eos_token"]);
    expect(text(tokenizer.endOfTurnTokenId)).toBe(family.endOfTurn ?? family.roles["eos_token"]);
    if (family.pad === undefined) expect(tokenizer.padTokenId).toBe(399);
    else expect(text(tokenizer.padTokenId)).toBe(family.pad);
    expect([tokenizer.eosTokenId, tokenizer.endOfTurnTokenId]).not.toContain(tokenizer.padTokenId);
  });

  test("ends a conversation with the token that ends an answer", async () => {
    const tokenizer = await tokenizerOf(family);
    const { tokens, assistantMask } = await tokenizer.encodeConversation([
      { role: "user", content: "a" },
      { role: "assistant", content: "b" },
    ]);
    expect([tokens.at(-1), assistantMask.at(-1)]).toEqual([tokenizer.endOfTurnTokenId, true]);
  });
});

describe("added tokens", () => {
  test("take the spaces along that their flags say, and stand alone where they must", async () => {
    const entry = (content: string, flags: object) => ({ content, special: true, ...flags });
    const added_tokens_decoder = {
      400: entry("<left>", { lstrip: true }), 401: entry("<right>", { rstrip: true }), 402: entry("<word>", { single_word: true }),
    };
    const tokenizer = await Tokenizer.fromParts(chatmlParts({ added_tokens_decoder }));
    const [space = -1] = await tokenizer.encode(" ");
    const [a = -1] = await tokenizer.encode("a");
    expect(await tokenizer.encode("a <left> a")).toEqual([a, 400, ...(await tokenizer.encode(" a"))]);
    expect(await tokenizer.encode("a <right> a")).toEqual([a, space, 401, a]);
    expect(await tokenizer.encode("<word>")).toEqual([402]);
    expect(await tokenizer.encode("a<word>a")).not.toContain(402);
  });

  test("of added_tokens.json come after the vocabulary of tokenizer.model, and are special where a role or a list says so", async () => {
    const folder = unpackFixture("spm-llama", temporaryFolder());
    const { vocabSize } = await Tokenizer.load(folder);
    writeFileSync(
      join(folder, "added_tokens.json"),
      JSON.stringify({ "<|im_end|>": vocabSize + 1, "<|im_start|>": vocabSize, "<tool>": vocabSize + 2 }),
    );
    writeFileSync(
      join(folder, "special_tokens_map.json"),
      JSON.stringify({ eos_token: "<|im_end|>", additional_special_tokens: ["<|im_start|>"] }),
    );
    const tokenizer = await Tokenizer.load(folder);
    const ids = [vocabSize, vocabSize + 1, vocabSize + 2];
    expect(await tokenizer.encode("<|im_start|><|im_end|><tool>")).toEqual(ids);
    expect(tokenizer.eosTokenId).toBe(vocabSize + 1);
    expect(tokenizer.decode(ids)).toBe("<tool>");
  });

  test("that are there already keep their flags, and become special where the configuration says so", async () => {
    const parts = chatmlParts({ additional_special_tokens: ["<x>"] });
    const json = JSON.parse(parts.tokenizerJson) as { added_tokens: object[] };
    json.added_tokens.push({ id: 400, content: "<x>", special: false, lstrip: true, rstrip: false, single_word: false, normalized: false });
    const tokenizer = await Tokenizer.fromParts({ ...parts, tokenizerJson: JSON.stringify(json) });
    expect(await tokenizer.encode("  <x>")).toEqual([400]);
    expect(tokenizer.decode([400])).toBe("");
  });
});
