import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { type GgufCheckpoint, openGguf } from "../../../src/model/gguf/checkpoint.ts";
import type { TokenizerParts } from "../../../src/tokenizer/parts.ts";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { CHATML_FOLDER, chatmlParts } from "../../tokenizer/fixture.ts";
import { GGUF_GOLDEN } from "./golden.ts";
import { float32Bytes, type GgufTensor, type GgufValue, writeGguf } from "./write-gguf.ts";

const failure = (fields: object): unknown => expect.objectContaining(fields);
const CHECKPOINT_ERROR = { name: "CheckpointError", code: "E_CHECKPOINT" };

/** One layer: 2 heads of 4, 1 key-value head, hidden 8, MLP 32, 5 words. */
const METADATA: Readonly<Record<string, GgufValue>> = {
  "general.architecture": "llama",
  "llama.block_count": 1,
  // The decimal 1073741800 rounds to the same float32: a whole number must not be taken for one.
  "llama.context_length": 2 ** 30,
  "llama.embedding_length": 8,
  "llama.feed_forward_length": 32,
  "llama.attention.head_count": 2,
  "llama.attention.head_count_kv": 1,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 100000.5,
  "llama.rope.dimension_count": 4,
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
};

/** F32 tensor whose rows are filled with `rows`. */
function tensor(name: string, rows: readonly number[], columns: number): GgufTensor {
  const values = rows.flatMap((value) => new Array<number>(columns).fill(value));
  return { name, shape: [rows.length, columns], type: "F32", data: float32Bytes(values) };
}

const EMBEDDING = tensor("token_embd.weight", [0, 1, 2, 3, 4], 8);

function ggufPath(tensors: readonly GgufTensor[] = [EMBEDDING], changes: Readonly<Record<string, GgufValue | undefined>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), "tschat-gguf-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, "model.gguf");
  const kept = Object.entries({ ...METADATA, ...changes }).filter((entry): entry is [string, GgufValue] => entry[1] !== undefined);
  writeGguf(path, Object.fromEntries(kept), tensors);
  return path;
}

function open(...file: Parameters<typeof ggufPath>): GgufCheckpoint {
  return openGguf(ggufPath(...file));
}

describe("tensors", () => {
  test.each(GGUF_GOLDEN)("$type is read as llama.cpp's package reads it", async ({ type, bytes, values }) => {
    const data = new Uint8Array(Buffer.from(bytes, "hex"));
    // Twice, so that the second block's place is checked too.
    const shape = [2, values.length];
    const checkpoint = open([EMBEDDING, { name: "blk.0.ffn_up.weight", shape, type, data: Buffer.concat([data, data]) }]);
    expect(checkpoint.read("model.layers.0.mlp.up_proj.weight").numbers()).toEqual([...values, ...values]);
    expect(checkpoint.shape("model.layers.0.mlp.up_proj.weight")).toEqual(shape);
  });

  test("half precision has infinities, NaN, subnormals and signed zero", async () => {
    const data = new Uint8Array(Uint16Array.of(0x7c00, 0xfc00, 0x7e00, 0x0001, 0x8000, 0x03ff).buffer);
    const checkpoint = open([EMBEDDING, { name: "blk.0.ffn_norm.weight", shape: [6], type: "F16", data }]);
    // 0x0001 is 2^-24, 0x03ff is 1023 * 2^-24.
    const expected = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN, 2 ** -24, -0, 1023 * 2 ** -24];
    expect(checkpoint.read("model.layers.0.post_attention_layernorm.weight").numbers()).toEqual(expected);
  });

  test("have the names and the order of a Hugging Face checkpoint", async () => {
    const names = {
      "token_embd.weight": "model.embed_tokens.weight",
      "output_norm.weight": "model.norm.weight",
      "output.weight": "lm_head.weight",
      "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
      "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
      "blk.0.attn_k.bias": "model.layers.0.self_attn.k_proj.bias",
      "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
      "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
      "blk.12.ffn_norm.weight": "model.layers.12.post_attention_layernorm.weight",
      "blk.12.ffn_gate.weight": "model.layers.12.mlp.gate_proj.weight",
      "blk.12.ffn_up.bias": "model.layers.12.mlp.up_proj.bias",
      "blk.12.ffn_down.weight": "model.layers.12.mlp.down_proj.weight",
    };
    const checkpoint = open(Object.keys(names).map((name) => tensor(name, [1, 2, 3, 4], 8)));
    expect(checkpoint.names()).toEqual(Object.values(names));
  });

  test("rows of q and k are put back into the order of Hugging Face's rotary positions", async () => {
    // The converter turns the rows h0 h1 h2 h3 of a head (pairs h0, h2 and h1, h3) into h0 h2 h1 h3 (pairs of neighbours).
    const stored = [0, 2, 1, 3, 10, 12, 11, 13];
    const checkpoint = open([
      EMBEDDING,
      tensor("blk.0.attn_q.weight", stored, 8),
      tensor("blk.0.attn_k.weight", stored.slice(0, 4), 8),
      tensor("blk.0.attn_v.weight", stored.slice(0, 4), 8),
      { name: "blk.0.attn_q.bias", shape: [8], type: "F32", data: float32Bytes(stored) },
    ]);
    const values = (name: string) => checkpoint.read(`model.layers.0.self_attn.${name}`).numbers();
    const firstColumn = (name: string) => values(name).filter((_, index) => index % 8 === 0);
    expect(firstColumn("q_proj.weight")).toEqual([0, 1, 2, 3, 10, 11, 12, 13]);
    expect(firstColumn("k_proj.weight")).toEqual([0, 1, 2, 3]);
    expect(firstColumn("v_proj.weight")).toEqual([0, 2, 1, 3]);
    expect(checkpoint.read("model.layers.0.self_attn.q_proj.bias").numbers()).toEqual([0, 1, 2, 3, 10, 11, 12, 13]);
  });

  test("an unknown name is refused", async () => {
    const checkpoint = open();
    const error = expect.objectContaining({ ...CHECKPOINT_ERROR, message: expect.stringMatching(/model\.gguf: tensor "x" is missing$/) });
    expect(() => checkpoint.read("x")).toThrow(error);
    expect(() => checkpoint.shape("x")).toThrow(error);
  });
});

describe("config", () => {
  test("is what config.json would say", async () => {
    const { config, generationConfig } = open();
    expect(config).toEqual({
      architectures: ["LlamaForCausalLM"],
      model_type: "llama",
      hidden_act: "silu",
      hidden_size: 8,
      intermediate_size: 32,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 4,
      // Not 9.999999747378752e-6, the float32 that the file has.
      rms_norm_eps: 1e-5,
      rope_theta: 100000.5,
      max_position_embeddings: 2 ** 30,
      vocab_size: 5,
      attention_bias: false,
      mlp_bias: false,
      tie_word_embeddings: true,
      bos_token_id: 1,
      eos_token_id: 2,
    });
    expect(generationConfig).toEqual({ bos_token_id: 1, eos_token_id: 2 });
  });

  test("an output tensor unties the head, biases are noticed, and pad_token_id is taken", async () => {
    const tensors = ["output.weight", "blk.0.attn_q.bias", "blk.0.ffn_up.bias"].map((name) => tensor(name, [1], 8));
    const { config } = open([EMBEDDING, ...tensors], {
      "tokenizer.ggml.padding_token_id": 2,
      "llama.attention.head_count_kv": undefined,
    });
    expect(config).toMatchObject({
      tie_word_embeddings: false,
      attention_bias: true,
      mlp_bias: true,
      pad_token_id: 2,
      num_key_value_heads: 2,
    });
  });

  test("linear scaling of positions is taken over", async () => {
    const { config } = open([EMBEDDING], { "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4 });
    expect(config["rope_scaling"]).toEqual({ rope_type: "linear", factor: 4 });
  });

  /** The divisors as transformers' `_compute_llama3_parameters` states them, branch by branch. */
  function llama3Factors(theta: number, headDim: number, factor: number, original: number): number[] {
    return Array.from({ length: headDim / 2 }, (_, i) => {
      const frequency = 1 / theta ** ((2 * i) / headDim);
      const wavelength = (2 * Math.PI) / frequency;
      if (wavelength < original / 4) return 1;
      if (wavelength > original / 1) return factor;
      const smooth = (original / wavelength - 1) / (4 - 1);
      return frequency / (((1 - smooth) * frequency) / factor + smooth * frequency);
    });
  }

  test("Llama 3's scaling is recognised by its divisors", async () => {
    const wide = { "llama.embedding_length": 128, "llama.rope.dimension_count": 64, "llama.rope.freq_base": 500000 };
    const factors = (original: number): GgufTensor => ({
      name: "rope_freqs.weight",
      shape: [32],
      type: "F32",
      data: float32Bytes(llama3Factors(500000, 64, 32, original)),
    });
    const { config, names } = open([EMBEDDING, factors(8192)], wide);
    expect(config["rope_scaling"]).toEqual({
      rope_type: "llama3",
      factor: 32,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    });
    expect(names()).toEqual(["model.embed_tokens.weight"]);
    expect(() => open([EMBEDDING, factors(4096)], wide)).toThrow(failure({
      ...CHECKPOINT_ERROR,
      message: expect.stringContaining("rope_freqs.weight: expected the frequency factors of Llama 3's rotary scaling, found others"),
    }));
  });

  test("missing or unusable settings are refused by name", async () => {
    expect(() => open([EMBEDDING], { "llama.block_count": undefined })).toThrow(failure({
      ...CHECKPOINT_ERROR,
      message: expect.stringContaining("llama.block_count: expected a number, found nothing"),
    }));
    expect(() => open([EMBEDDING], { "llama.rope.dimension_count": 2 })).toThrow(failure({
      ...CHECKPOINT_ERROR,
      message: expect.stringContaining("llama.rope.dimension_count is 2, expected 4: partial rotary positions"),
    }));
    expect(() => open([EMBEDDING], { "llama.rope.scaling.type": "yarn" })).toThrow(failure({
      ...CHECKPOINT_ERROR,
      message: expect.stringContaining("llama.rope.scaling.factor is missing"),
    }));
  });
});

describe("a file that cannot be used is refused", () => {
  const refused = (message: RegExp) => ({ ...CHECKPOINT_ERROR, message: expect.stringMatching(message) });

  test("another architecture", async () => {
    expect(() => open([EMBEDDING], { "general.architecture": "mamba" })).toThrow(failure(
      refused(/model\.gguf: architecture "mamba" is not supported in a GGUF file, expected one of llama, qwen2, /),
    ));
  });

  test("another tensor type, by tensor and type", async () => {
    const tensors: GgufTensor[] = [EMBEDDING, { name: "blk.0.ffn_up.weight", shape: [1, 256], type: "IQ1_S", data: new Uint8Array(50) }];
    expect(() => open(tensors)).toThrow(failure(refused(/tensor "blk\.0\.ffn_up\.weight" is of type IQ1_S, expected one of F32, F16/)));
  });

  test("rows that are not whole blocks", async () => {
    const tensors: GgufTensor[] = [EMBEDDING, { name: "blk.0.ffn_up.weight", shape: [2, 16], type: "Q8_0", data: new Uint8Array(34) }];
    expect(() => open(tensors)).toThrow(failure(refused(/is \[2, 16\], but rows of Q8_0 come in blocks of 32/)));
  });

  test("an unexpected tensor, and a missing embedding", async () => {
    expect(() => open([EMBEDDING, tensor("blk.0.ffn_gate_inp.weight", [1], 8)])).toThrow(failure(
      refused(/unexpected tensor "blk\.0\.ffn_gate_inp\.weight"/),
    ));
    expect(() => open([])).toThrow(failure(refused(/tensor "token_embd\.weight" is missing/)));
  });

  test("a truncated file, wherever it ends", async () => {
    const path = ggufPath();
    const whole = readFileSync(path);
    for (const length of [whole.length - 1, whole.length - 161, whole.length - 200, 200, 100, 30]) {
      truncateSync(path, length);
      expect(() => openGguf(path), `${length} bytes`).toThrow(failure(refused(/model\.gguf: .*truncated/)));
      writeFileSync(path, whole);
    }
    expect(openGguf(path).names()).toEqual(["model.embed_tokens.weight"]);
  });

  test("a file that is not GGUF, an empty one and none", async () => {
    const path = ggufPath();
    writeFileSync(path, "not a model");
    const magic = /cannot be read as a GGUF file: not a valid GGUF file: it does not start with the magic number/;
    expect(() => openGguf(path)).toThrow(failure(refused(magic)));
    writeFileSync(path, "");
    expect(() => openGguf(path)).toThrow(failure(refused(/cannot be read as a GGUF file/)));
    expect(() => openGguf(`${path}.gguf`)).toThrow(failure(refused(/cannot be read as a GGUF file: ENOENT/)));
  });
});

describe("tokenizer", () => {
  /** The fixture's tokenizer as a GGUF file states it. */
  function tokenizerMetadata(): Record<string, GgufValue> {
    const { tokenizerJson, config } = chatmlParts();
    const { model } = JSON.parse(tokenizerJson) as { model: { vocab: Record<string, number>; merges: [string, string][] } };
    const tokens = Object.entries(model.vocab)
      .sort((a, b) => a[1] - b[1])
      .map(([token]) => token);
    return {
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "smollm",
      "tokenizer.ggml.tokens": tokens,
      "tokenizer.ggml.token_type": tokens.map((_, id) => (id < 3 ? 3 : 1)),
      "tokenizer.ggml.merges": model.merges.map((merge) => merge.join(" ")),
      "tokenizer.ggml.unknown_token_id": 0,
      "tokenizer.ggml.padding_token_id": 2,
      "tokenizer.chat_template": config["chat_template"] as string,
    };
  }

  test("equals the Hugging Face tokenizer that the file was made from", async () => {
    const path = ggufPath([EMBEDDING], tokenizerMetadata());
    const [fromFile, original] = [await Tokenizer.load(path), await Tokenizer.load(CHATML_FOLDER)];
    for (const text of ["The user asks 456 questions.", "caf\u00e9 \u{1F600}\n\n  two", "<|im_start|>user\nHi<|im_end|>\n"]) {
      const ids = await original.encode(text);
      expect(await fromFile.encode(text)).toEqual(ids);
      expect(fromFile.decode(ids)).toBe(original.decode(ids));
    }
    for (const key of ["vocabSize", "bosTokenId", "eosTokenId", "padTokenId", "endOfTurnTokenId", "chatTemplate"] as const) {
      expect(fromFile[key]).toBe(original[key]);
    }
    const checkpoint = openGguf(path);
    const fromParts = await Tokenizer.fromParts(checkpoint.tokenizer as TokenizerParts);
    expect(await fromParts.encode("The user asks 456 questions.")).toEqual(await original.encode("The user asks 456 questions."));
  });

  test("a file without one still gives its weights", async () => {
    const path = ggufPath();
    const checkpoint = openGguf(path);
    expect(checkpoint.read("model.embed_tokens.weight").size).toBe(40);
    const error = { ...CHECKPOINT_ERROR, message: `${path}: the file has no tokenizer: tokenizer.ggml.model is missing` };
    await expect(Tokenizer.load(path)).rejects.toMatchObject(error);
    expect(checkpoint.tokenizer).toBeUndefined();
  });
});
