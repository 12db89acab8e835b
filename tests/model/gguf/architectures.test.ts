import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../../src/model/checkpoint-source.ts";
import { openGguf } from "../../../src/model/gguf/checkpoint.ts";
import { exportGguf } from "../../../src/model/gguf/export.ts";
import { CausalLM } from "../../../src/model/causal-lm.ts";
import { readGgufHeader } from "../../../src/tokenizer/gguf-header.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { chatmlParts } from "../../tokenizer/fixture.ts";

/** Made by tests/external/gguf_architectures.py with llama.cpp's converter. */
const folder = fileURLToPath(new URL("../../fixtures/gguf", import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith(".gguf")).map((name) => basename(name, ".gguf"));

/** What the Hugging Face folder has that the file was made from. */
interface Golden {
  config: Record<string, unknown>;
  tensors: Record<string, { shape: number[]; sha256: string }>;
}

function golden(name: string): Golden {
  return JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8")) as Golden;
}

/** Keys that transformers 5 moved into `rope_parameters`, and those where several values mean the same; the logits were compared. */
const SPELLED_OTHERWISE = [
  "architectures", "rope_theta", "rope_scaling", "rope_local_base_freq", "rotary_pct", "rotary_emb_base",
  "partial_rotary_factor", "n_inner", "hidden_activation", "num_kv_heads", "num_ln_in_parallel_attn",
];

/** What a file cannot say: that it is Mistral, Falcon's context (2048 is written always) and what its new architecture ignores. */
const LOST = { mistral: ["model_type", "attention_bias", "mlp_bias"], falcon: ["max_position_embeddings", "multi_query"] };

test("there is a file of every architecture", () => {
  expect(names.length).toBeGreaterThan(12);
});

describe.each(names)("%s", (name) => {
  const path = join(folder, `${name}.gguf`);

  test("has the tensors of the folder that it was made from", () => {
    const file = openGguf(path), { tensors } = golden(name);
    expect(file.names().sort()).toEqual(Object.keys(tensors).sort());
    for (const [key, { shape, sha256 }] of Object.entries(tensors)) {
      expect(file.shape(key), key).toEqual(shape);
      const read = file.read(key);
      expect(read.shape, key).toEqual(shape);
      expect(createHash("sha256").update(read.bytes()).digest("hex"), key).toBe(sha256);
    }
  });

  test("has the configuration of that folder", async () => {
    const { config } = openGguf(path), expected = golden(name).config;
    const others = [...SPELLED_OTHERWISE, ...(Object.entries(LOST).find(([start]) => name.startsWith(start))?.[1] ?? [])];
    for (const [key, value] of Object.entries(config)) {
      if (others.includes(key)) continue;
      expect(value, key).toEqual(expected[key]);
    }
    // The family reads what is spelled otherwise.
    await expect(CausalLM.load(path, { dtype: "float32" })).resolves.toBeInstanceOf(CausalLM);
  });

  test("is written again as it was", async () => {
    const output = join(temporaryFolder(), "again.gguf");
    const tokenizer = chatmlParts();
    const source = await openCheckpoint(path);
    exportGguf(output, { source, tokenizer: { ...tokenizer, tokenizerJson: tinyTokenizer(tokenizer.tokenizerJson) }, dtype: "f32" });
    const [first, second] = [readGgufHeader(path), readGgufHeader(output)];
    for (const [key, value] of Object.entries(first.metadata)) {
      if (!key.startsWith(`${String(first.metadata["general.architecture"])}.`)) continue;
      expect(second.metadata[key], key).toEqual(value);
    }
    const [whole, again] = [readFileSync(path), readFileSync(output)];
    const dataOf = (bytes: Buffer, header: typeof first, tensor: string) => {
      const info = header.tensors.find((candidate) => candidate.name === tensor);
      if (info === undefined) return undefined;
      const start = header.dataStart + info.offset, length = info.shape.reduce((product, size) => product * size, 4);
      return { shape: info.shape, type: info.type, data: bytes.subarray(start, start + length).toString("hex") };
    };
    expect(second.tensors.map((tensor) => tensor.name).sort()).toEqual(first.tensors.map((tensor) => tensor.name).sort());
    for (const { name: tensor } of first.tensors) {
      // The converter computes these in float32: the last bit may differ.
      if (tensor === "rope_freqs.weight") continue;
      expect(dataOf(again, second, tensor), tensor).toEqual(dataOf(whole, first, tensor));
    }
  });
});

/** The models have 24 words. */
function tinyTokenizer(tokenizerJson: string): string {
  const json = JSON.parse(tokenizerJson) as { model: { vocab: Record<string, number>; merges: unknown[] } };
  const vocab = Object.fromEntries(Object.entries(json.model.vocab).filter(([, id]) => id < 24));
  return JSON.stringify({ ...json, model: { ...json.model, vocab, merges: [] } });
}
