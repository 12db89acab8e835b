import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { ENCODINGS, encodePieces } from "../../../src/model/gguf/quantize.ts";
import { openGguf } from "../../../src/model/gguf/checkpoint.ts";
import { tensor } from "../../../src/tensor/create.ts";
import { SafetensorsFile } from "../../../src/tensor/safetensors.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { float32Bytes, type GgufTensor, writeGguf } from "./write-gguf.ts";

/** Made by tests/external/gguf_goldens.py with llama.cpp's Python package. */
const golden = new SafetensorsFile(fileURLToPath(new URL("../../fixtures/gguf/quants.safetensors", import.meta.url)));
const bytes = (name: string): Uint8Array => golden.read(name).bytes();

const types = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"] as const;

test.each(types)("%s has the very bits that llama.cpp's package reads", (type) => {
  const path = join(temporaryFolder(), "model.gguf"), shape = golden.shape(`${type}.values`);
  const embedding: GgufTensor = { name: "token_embd.weight", shape: [1, 8], type: "F32", data: float32Bytes(new Array(8).fill(0)) };
  const metadata = {
    "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 8, "llama.embedding_length": 8,
    "llama.feed_forward_length": 8, "llama.attention.head_count": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
  };
  writeGguf(path, metadata, [embedding, { name: "blk.0.ffn_up.weight", shape, type, data: bytes(`${type}.blocks`) }]);
  const read = openGguf(path).read("model.layers.0.mlp.up_proj.weight");
  expect(read.shape).toEqual(shape);
  // Bytes, so that -0 is not 0.
  expect(Buffer.from(read.bytes()).equals(Buffer.from(bytes(`${type}.values`)))).toBe(true);
});

test("Q8_0 is written with the very bits of llama.cpp's quantiser", () => {
  const written = [...encodePieces(golden.read("quantize.values"), ENCODINGS.q8_0)];
  expect(Buffer.concat(written).equals(Buffer.from(bytes("quantize.Q8_0")))).toBe(true);
});

test("float16 refuses numbers that it does not have", () => {
  expect(() => [...encodePieces(tensor([1, 70000]), ENCODINGS.f16)]).toThrow(
    expect.objectContaining({ code: "E_CONFIG", message: expect.stringContaining("a weight is larger than 65504") }),
  );
});
