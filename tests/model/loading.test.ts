import { existsSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { CausalLM } from "../../src/model/causal-lm.ts";
import { RewardModel } from "../../src/model/reward-model.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { assertClose } from "../assert-close.ts";
import { temporaryFolder } from "../temporary-folder.ts";
import { archive, floats, int, join as joinBytes, pickle, tensorCall, text } from "./formats/torch-archive.ts";
import { type PlainTensor, readTensors, writeTensors } from "./safetensors-file.ts";
import { type TinyModelOptions, writeTinyModel } from "./tiny-model.ts";
import { float32Bytes, type GgufTensor, writeGguf } from "./gguf/write-gguf.ts";

const folderWith = (options: TinyModelOptions = { family: "llama" }) => writeTinyModel(temporaryFolder(), options);
const load = (path: string) => CausalLM.load(path, { dtype: "float32" });
const logitsOf = (model: CausalLM) => noGrad(() => model.forward([[5, 6, 7, 8]]));

/** Writes the tensors of a folder again, changed. */
function changeTensors(folder: string, change: (tensors: Map<string, PlainTensor>) => Map<string, PlainTensor>): void {
  const file = join(folder, "model.safetensors");
  writeTensors(file, change(new Map(readTensors(file))));
}

/** Sets (or with undefined removes) keys of a folder's config.json. */
function changeConfig(folder: string, changes: Record<string, unknown>): void {
  const file = join(folder, "config.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...changes }));
}

/** Spreads the tensors of a folder over three shards with an index; returns the shards' names. */
function shard(folder: string): string[] {
  const file = join(folder, "model.safetensors");
  const files = [1, 2, 3].map((i) => `model-0000${i}-of-00003.safetensors`);
  const weightMap: Record<string, string> = {};
  const tensors = [...readTensors(file)];
  for (const [i, name] of files.entries()) {
    const part = tensors.filter((_, at) => at % 3 === i);
    writeTensors(join(folder, name), new Map(part));
    for (const [key] of part) weightMap[key] = name;
  }
  writeFileSync(`${file}.index.json`, JSON.stringify({ metadata: {}, weight_map: weightMap }));
  rmSync(file);
  return files;
}

describe("the same model comes from", () => {
  test("one file and from shards", async () => {
    const folder = folderWith({ family: "opt" });
    const expected = logitsOf(await load(folder)).toArray();
    shard(folder);
    expect(existsSync(join(folder, "model.safetensors"))).toBe(false);
    expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
  });

  test.each(["llama", "opt"] as const)(
    "a file of the %s decoder alone, whose names lack the prefix, with the head or a tied one beside it",
    async (family) => {
      for (const tie_word_embeddings of [true, false]) {
        const folder = folderWith({ family, config: { tie_word_embeddings } });
        const expected = logitsOf(await load(folder)).toArray();
        changeTensors(folder, (tensors) => new Map([...tensors].map(([name, tensor]) => [name.replace(/^model\./, ""), tensor])));
        expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
      }
    },
  );

  test("a checkpoint that stores its tied head or computed frequencies once more", async () => {
    const folder = folderWith({ family: "llama", config: { tie_word_embeddings: true } });
    const expected = logitsOf(await load(folder)).toArray();
    changeTensors(folder, (tensors) => {
      const table = tensors.get("model.embed_tokens.weight");
      if (table) tensors.set("lm_head.weight", table);
      return tensors.set("model.layers.1.self_attn.rotary_emb.inv_freq", { shape: [4], data: [1, 2, 3, 4] });
    });
    expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
  });

  test("files of torch.save, one and two, with a tied head stored once more as a view of the same storage", async () => {
    const folder = folderWith({ family: "llama", config: { tie_word_embeddings: true } });
    const expected = logitsOf(await load(folder)).toArray();
    const tensors = [...readTensors(join(folder, "model.safetensors"))];
    const halves = [tensors.slice(0, 7), tensors.slice(7)];
    rmSync(join(folder, "model.safetensors"));
    const files = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"];
    for (const [i, half] of halves.entries()) writeFileSync(join(folder, files[i] ?? ""), torchFile(new Map(half), i === 0));
    const weightMap = Object.fromEntries(halves.flatMap((half, i) => half.map(([name]) => [name, files[i]])));
    writeFileSync(join(folder, "pytorch_model.bin.index.json"), JSON.stringify({ weight_map: weightMap }));
    expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
    writeFileSync(join(folder, "pytorch_model.bin"), torchFile(new Map(tensors), true)); // one file wins over shards
    for (const file of files) rmSync(join(folder, file));
    expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
  });

  /** What torch.save makes of tensors, each in a storage of its own; with `tied` "lm_head.weight" is a view of the first. */
  function torchFile(tensors: ReadonlyMap<string, PlainTensor>, tied: boolean): Buffer {
    const item = (name: string, { shape, data }: PlainTensor, key: number) => {
      const strides = shape.map((_, i) => int(shape.slice(i + 1).reduce((product, size) => product * size, 1)));
      return joinBytes(text(name), tensorCall({ key: String(key), numel: int(data.length), shape: shape.map(int), strides }), "s");
    };
    const list = [...tensors];
    const items = list.map(([name, tensor], key) => item(name, tensor, key));
    const [first] = list;
    if (tied && first) items.push(item("lm_head.weight", first[1], 0));
    return archive(pickle("}", ...items), Object.fromEntries(list.map(([, { data }], key) => [key, floats(...data)])));
  }

  test("old and new spellings of the configuration", async () => {
    const folder = folderWith({ family: "llama", config: { rope_parameters: { rope_type: "linear", rope_theta: 500, factor: 2 } } });
    const expected = logitsOf(await load(folder)).toArray();
    changeConfig(folder, {
      rope_parameters: undefined,
      rope_theta: 500,
      rope_scaling: { type: "linear", factor: 2 },
      dtype: undefined,
      torch_dtype: "float32",
      head_dim: null,
    });
    expect(logitsOf(await load(folder)).toArray()).toEqual(expected);
    changeConfig(folder, { rope_scaling: null });
    expect(logitsOf(await load(folder)).toArray()).not.toEqual(expected);
  });

  test("a .gguf file of it", async () => {
    const folder = folderWith({ family: "llama", config: { rope_parameters: { rope_type: "default", rope_theta: 500 } } });
    const path = join(temporaryFolder(), "model.gguf");
    writeGguf(
      path,
      {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 48,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 500,
        "llama.rope.dimension_count": 8,
        "llama.vocab_size": 96,
        ...wordTokenizer(96),
      },
      [...readTensors(join(folder, "model.safetensors"))].map(([name, tensor]) => toGguf(name, tensor)),
    );
    const [fromFolder, fromGguf] = [await load(folder), await load(path)];
    assertClose(logitsOf(fromGguf), logitsOf(fromFolder), { atol: 1e-5 });
    const saved = temporaryFolder();
    await fromGguf.save(saved);
    assertClose(logitsOf(await load(saved)), logitsOf(fromFolder), { atol: 1e-5 });
    expect(existsSync(join(saved, "tokenizer.json"))).toBe(true);
  });

  /** A byte-level tokenizer of `size` made-up words without merges. */
  function wordTokenizer(size: number) {
    return {
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "smollm",
      "tokenizer.ggml.merges": ["w 0"],
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.eos_token_id": 2,
      "tokenizer.ggml.tokens": Array.from({ length: size }, (_, i) => (i === 3 ? "w" : i === 4 ? "0" : `w${i - 5}`)),
      "tokenizer.ggml.token_type": Array.from({ length: size }, (_, i) => (i < 3 ? 3 : 1)),
    };
  }

  /** The names and the row order of llama.cpp's converter: the two halves of a rotary head are interleaved. */
  function toGguf(name: string, { shape, data }: PlainTensor): GgufTensor {
    const names: Record<string, string> = {
      "model.embed_tokens": "token_embd",
      "model.norm": "output_norm",
      lm_head: "output",
      input_layernorm: "attn_norm",
      post_attention_layernorm: "ffn_norm",
      "self_attn.q_proj": "attn_q",
      "self_attn.k_proj": "attn_k",
      "self_attn.v_proj": "attn_v",
      "self_attn.o_proj": "attn_output",
      "mlp.gate_proj": "ffn_gate",
      "mlp.up_proj": "ffn_up",
      "mlp.down_proj": "ffn_down",
    };
    const [, layer, part = ""] = /^(?:model\.layers\.(\d+)\.)?(.+)\.weight$/.exec(name) ?? [];
    const ggufName = `${layer === undefined ? "" : `blk.${layer}.`}${names[part]}.weight`;
    const [, width = 1] = shape;
    const rows = shape.length < 2 ? [[...data]] : Array.from({ length: shape[0] ?? 0 }, (_, i) => data.slice(i * width, (i + 1) * width));
    const interleaved = /[qk]_proj/.test(name) ? rows.map((_, i) => rows[i - (i % 8) + Math.floor((i % 8) / 2) + (i % 2) * 4] ?? []) : rows;
    return { name: ggufName, shape, type: "F32", data: float32Bytes(interleaved.flat()) };
  }
});

/** What loading the changed folder must fail with. */
const checkpointError = (message: RegExp) => ({ name: "CheckpointError", code: "E_CHECKPOINT", message: expect.stringMatching(message) });
const configError = (message: RegExp) => ({ name: "ConfigError", code: "E_CONFIG", message: expect.stringMatching(message) });

describe("a folder is refused", () => {
  test.each<[string, (folder: string) => void, RegExp]>([
    ["that is not there", (folder) => rmSync(folder, { recursive: true }), /: no such folder or file; give a Hugging Face folder/],
    ["without config.json", (folder) => rmSync(join(folder, "config.json")), /: has no config\.json; /],
    ["whose config.json is cut off", (folder) => truncateSync(join(folder, "config.json"), 40), /config\.json: cannot be read as JSON: /],
    [
      "whose config.json is no object",
      (folder) => writeFileSync(join(folder, "config.json"), "[1]"),
      /config\.json: expected a JSON object$/,
    ],
    [
      "whose generation_config.json is damaged",
      (folder) => writeFileSync(join(folder, "generation_config.json"), "{"),
      /generation_config\.json: cannot be read as JSON: /,
    ],
    [
      "of an unknown family",
      (folder) => changeConfig(folder, { model_type: "mamba" }),
      /: model_type "mamba"; tschat runs "llama", "mistral", .*"falcon": choose/,
    ],
    ["of no family", (folder) => changeConfig(folder, { model_type: undefined }), /: no model_type; tschat runs /],
    [
      "without weights",
      (folder) => rmSync(join(folder, "model.safetensors")),
      /: has no weights: expected model\.safetensors or pytorch_model\.bin, or shards with model\.safetensors\.index\.json$/,
    ],
    [
      "whose pytorch_model.bin is something else",
      (folder) => renameSync(join(folder, "model.safetensors"), join(folder, "pytorch_model.bin")),
      /pytorch_model\.bin: neither a zip archive nor a pickle, as files of torch\.save are; download it again$/,
    ],
    [
      "with a shard missing",
      (folder) => rmSync(join(folder, shard(folder)[1] ?? "")),
      /: 1 of 3 shards are missing, the first is model-00002-of-00003\.safetensors; download/,
    ],
    [
      "whose index has no map",
      (folder) => {
        shard(folder);
        writeFileSync(join(folder, "model.safetensors.index.json"), "{}");
      },
      /index\.json: has no "weight_map"$/,
    ],
    [
      "with a tensor in two shards",
      (folder) => {
        const [first = "", second = ""] = shard(folder);
        writeTensors(
          join(folder, second),
          new Map([...readTensors(join(folder, second)), ...[...readTensors(join(folder, first))].slice(0, 1)]),
        );
      },
      /: "model\.embed_tokens\.weight" is in .*model-00001-of-00003\.safetensors and in .*model-00002-of-00003\.safetensors$/,
    ],
  ])("%s", async (_what, damage, message) => {
    const folder = folderWith();
    damage(folder);
    await expect(load(folder)).rejects.toMatchObject(checkpointError(message));
  });

  test("and a file that is no checkpoint", async () => {
    const file = join(temporaryFolder(), "model.onnx");
    writeFileSync(file, "x");
    await expect(load(file)).rejects.toMatchObject(checkpointError(/model\.onnx: a file that is no \.gguf; give /));
  });
});

describe("weights are refused", () => {
  const file = (folder: string) => join(folder, "model.safetensors");
  /** Replaces text in the header by other text of the same length. */
  function changeHeader(folder: string, from: string, to: string): void {
    const bytes = readFileSync(file(folder));
    const at = bytes.indexOf(from);
    expect(at).toBeGreaterThan(0);
    expect(to).toHaveLength(from.length);
    bytes.write(to, at, "latin1");
    writeFileSync(file(folder), bytes);
  }

  test.each<[string, (folder: string) => void, RegExp]>([
    [
      "empty",
      (folder) => truncateSync(file(folder), 0),
      /model\.safetensors: 0 bytes are too few for a safetensors file; download it again$/,
    ],
    ["cut off in the length", (folder) => truncateSync(file(folder), 5), /: 5 bytes are too few/],
    [
      "cut off in the header",
      (folder) => truncateSync(file(folder), 100),
      /: the header claims \d+ bytes, the file has 100: it is truncated or no safetensors file/,
    ],
    [
      "cut off in the data",
      (folder) => truncateSync(file(folder), readFileSync(file(folder)).length - 4),
      /: truncated: "lm_head\.weight" ends at byte \d+, the file has \d+; download it again$/,
    ],
    [
      "that are something else",
      (folder) => writeFileSync(file(folder), "<!DOCTYPE html><html>not found</html>"),
      /model\.safetensors: is a web page, not the file itself; download it again /,
    ],
    ["with a damaged header", (folder) => changeHeader(folder, '{"model.', 'x"model.'), /: the header is no JSON; the file is damaged/],
    [
      "of an unknown dtype",
      (folder) => changeHeader(folder, '"dtype":"F32"', '"dtype":"C64"'),
      /: "model\.embed_tokens\.weight" has dtype "C64", expected one of F32, BF16, F16,/,
    ],
    [
      "whose shape does not fit their bytes",
      (folder) => changeHeader(folder, '"shape":[96,32]', '"shape":[96,33]'),
      /: "model\.embed_tokens\.weight" is F32\[96, 33\] and needs 12672 bytes, the header gives it 12288$/,
    ],
    [
      "with a malformed shape",
      (folder) => changeHeader(folder, '"shape":[96,32]', '"shape":[96,-2]'),
      /: "model\.embed_tokens\.weight" has a malformed shape or offsets$/,
    ],
    [
      "with a tensor missing",
      (folder) =>
        changeTensors(folder, (tensors) => {
          tensors.delete("model.layers.1.mlp.up_proj.weight");
          return tensors;
        }),
      /: "model\.layers\.1\.mlp\.up_proj\.weight" is missing; the model that config\.json describes has it$/,
    ],
    [
      "with the head missing",
      (folder) =>
        changeTensors(folder, (tensors) => {
          tensors.delete("lm_head.weight");
          return tensors;
        }),
      /: "lm_head\.weight" is missing; /,
    ],
    [
      "with tensors too many",
      (folder) =>
        changeTensors(folder, (tensors) =>
          tensors.set("model.layers.2.extra", { shape: [1], data: [1] }).set("more", { shape: [1], data: [1] }),
        ),
      /: "model\.layers\.2\.extra" \(and 1 more\) is no tensor of the model that config\.json describes$/,
    ],
    [
      "of another shape",
      (folder) => changeConfig(folder, { intermediate_size: 52 }),
      /: "model\.layers\.0\.mlp\.gate_proj\.weight" is \[48, 32\], the model expects \[52, 32\]$/,
    ],
    [
      "of another number of dimensions",
      (folder) =>
        changeTensors(folder, (tensors) => tensors.set("model.norm.weight", { shape: [1, 32], data: new Array<number>(32).fill(1) })),
      /: "model\.norm\.weight" is \[1, 32\], the model expects \[32\]$/,
    ],
    [
      "with biases that config.json denies",
      (folder) =>
        changeTensors(folder, (tensors) =>
          tensors.set("model.layers.0.self_attn.q_proj.bias", { shape: [32], data: new Array<number>(32).fill(1) }),
        ),
      /: "model\.layers\.0\.self_attn\.q_proj\.bias" is no tensor of the model/,
    ],
    [
      "with a head that differs from the tied table",
      (folder) => changeConfig(folder, { tie_word_embeddings: true }),
      /: "lm_head\.weight" differs from the token table although config\.json says "tie_word_embeddings": true; set it to false/,
    ],
  ])("%s", async (_what, damage, message) => {
    const folder = folderWith();
    damage(folder);
    await expect(load(folder)).rejects.toMatchObject(checkpointError(message));
  });
});

describe("a configuration is refused", () => {
  test.each<["llama" | "opt", Record<string, unknown>, RegExp]>([
    ["llama", { hidden_size: "32" }, /^config\.json: "hidden_size": expected a positive whole number, found "32"$/],
    ["llama", { vocab_size: undefined }, /^config\.json: "vocab_size": expected a positive whole number, found nothing$/],
    ["llama", { num_hidden_layers: 0 }, /^config\.json: "num_hidden_layers": expected a positive whole number, found 0$/],
    ["llama", { num_attention_heads: 5, num_key_value_heads: 5 }, /^config\.json: "head_dim": expected a positive whole .*, found 6\.4$/],
    ["llama", { num_key_value_heads: 3 }, /^config\.json: "num_attention_heads" \(4\) must be a multiple of "num_key_value_heads" \(3\)$/],
    ["llama", { head_dim: 7 }, /^config\.json: rotary positions need an even number of elements, found 7 of 7 in a head$/],
    ["llama", { rms_norm_eps: "1e-5" }, /^config\.json: "rms_norm_eps": expected a number, found "1e-5"$/],
    ["llama", { attention_bias: "no" }, /^config\.json: "attention_bias": expected true or false, found "no"$/],
    ["llama", { hidden_act: "mish" }, /^config\.json: "hidden_act": expected one of silu, .*, found "mish"$/],
    ["llama", { hidden_act: "toString" }, /^config\.json: "hidden_act": expected one of silu, .*, found "toString"$/],
    ["llama", { rope_parameters: "linear" }, /^config\.json: "rope_parameters": expected an object, found "linear"$/],
    [
      "llama",
      { rope_parameters: { rope_type: "spiral", factor: 2 } },
      /^config\.json: "rope_parameters\.rope_type": expected one of default, linear, dynamic, llama3, yarn, longrope, su, found "spiral"$/,
    ],
    ["llama", { rope_parameters: { rope_type: "linear" } }, /^config\.json: "rope_parameters\.factor": expected a number, found nothing$/],
    [
      "llama", { rope_parameters: { rope_type: "default", mrope_section: [1, 2] } },
      /^config\.json: "rope_parameters\.mrope_section": \[1,2\] is no option that tschat knows/,
    ],
    ["llama", { use_qk_clamp: 3 }, /^config\.json: "use_qk_clamp": 3 is no option that tschat knows for Llama; if .*, remove the key$/],
    ["opt", { num_attention_heads: 5 }, /^config\.json: "hidden_size" \(32\) must be a multiple of "num_attention_heads" \(5\)$/],
    ["opt", { activation_function: "tanh" }, /^config\.json: "activation_function": expected one of /],
    ["opt", { ffn_dim: null }, /^config\.json: "ffn_dim": expected a positive whole number, found nothing$/],
  ])("%s with %o", async (family, changes, message) => {
    const folder = folderWith({ family });
    changeConfig(folder, changes);
    await expect(load(folder)).rejects.toMatchObject(configError(message));
  });

  test("and an option of loading that this version does not have", async () => {
    const folder = folderWith();
    await expect(CausalLM.load(folder, { dtype: "float16" as "float32" })).rejects.toMatchObject(
      configError(/^dtype: expected "auto", "float32" or "bfloat16", got "float16"$/),
    );
    await expect(CausalLM.load(folder, { device: "tpu" as "cpu" })).rejects.toMatchObject(configError(/^device: .*"tpu"/));
  });
});

test("a language model is no reward model, and a reward model no language model", async () => {
  const folder = folderWith();
  await expect(RewardModel.load(folder)).rejects.toMatchObject(
    checkpointError(/: has no "score\.weight": it is no reward model; train one with "tschat reward"/),
  );
  const rewardFolder = temporaryFolder();
  await (await RewardModel.withNewHead(folder, { head: { seed: 1 }, dtype: "float32" })).save(rewardFolder);
  await expect(load(rewardFolder)).rejects.toMatchObject(
    checkpointError(/: has a "score\.weight": it is a reward model, where a language model is expected/),
  );
});
