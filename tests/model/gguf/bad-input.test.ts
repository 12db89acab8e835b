import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { openGguf } from "../../../src/model/gguf/checkpoint.ts";
import { failure } from "../../failure.ts";
import { temporaryFolder } from "../../temporary-folder.ts";
import { float32Bytes, type GgufTensor, type GgufValue, writeGguf } from "./write-gguf.ts";

const METADATA: Record<string, GgufValue> = {
  "general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 8, "llama.embedding_length": 8,
  "llama.feed_forward_length": 8, "llama.attention.head_count": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
};
const EMBEDDING: GgufTensor = { name: "token_embd.weight", shape: [2, 8], type: "F32", data: float32Bytes(new Array(16).fill(0)) };

/** Bytes of the header: magic, version, number of tensors, number of values. */
const VERSION_AT = 4, TENSORS_AT = 8, VALUES_AT = 16, FIRST_KEY_AT = 24;

/** A whole file; `damage` may change its bytes. */
function file(damage: (bytes: Buffer) => unknown, changes: Record<string, GgufValue> = {}): string {
  const path = join(temporaryFolder(), "model.gguf");
  writeGguf(path, { ...METADATA, ...changes }, [EMBEDDING]);
  const bytes = readFileSync(path);
  const damaged = damage(bytes);
  writeFileSync(path, damaged instanceof Buffer ? damaged : bytes);
  return path;
}

/** Where the list of tensors starts: at the length of the only tensor's name. */
function tensorAt(bytes: Buffer): number {
  return bytes.indexOf("token_embd.weight") - 8;
}

describe("a damaged file is refused with what was found", () => {
  const afterName = (bytes: Buffer) => tensorAt(bytes) + 8 + "token_embd.weight".length;
  test.each<[string, (bytes: Buffer) => unknown, string]>([
    ["nothing but a few bytes", (bytes) => bytes.subarray(0, 20), "not a valid GGUF file: it has 20 bytes"],
    ["another magic", (bytes) => void bytes.write("GGML"), 'not a valid GGUF file: it does not start with the magic number "GGUF"'],
    ["version 1", (bytes) => void bytes.writeUInt32LE(1, VERSION_AT), "version 1 is not supported, expected 2 or 3"],
    ["a big-endian file", (bytes) => void bytes.writeUInt32BE(3, VERSION_AT), "big-endian files are not supported"],
    ["a huge number of tensors", (bytes) => void bytes.writeBigUInt64LE(2n ** 40n, TENSORS_AT), "it claims 1099511627776 tensors"],
    ["a number beyond all sizes", (bytes) => void bytes.writeBigUInt64LE(2n ** 63n, VALUES_AT),
      "the number 9223372036854775808 is beyond every size"],
    ["a huge key", (bytes) => void bytes.writeBigUInt64LE(2n ** 32n, FIRST_KEY_AT), "it claims 4294967296 bytes of a text"],
    ["an unknown type of a value", (bytes) => void bytes.writeUInt32LE(99, FIRST_KEY_AT + 8 + "general.architecture".length),
      "a metadata value is of type 99, expected 0 to 12"],
    ["too many dimensions", (bytes) => void bytes.writeUInt32LE(9, afterName(bytes)), 'tensor "token_embd.weight" has 9 dimensions'],
    ["an unknown type of a tensor", (bytes) => void bytes.writeUInt32LE(77, afterName(bytes) + 4 + 16),
      'tensor "token_embd.weight" is of type number 77, expected one of F32, F16'],
    ["an offset that is not aligned", (bytes) => void bytes.writeBigUInt64LE(8n, afterName(bytes) + 4 + 16 + 4),
      'tensor "token_embd.weight" starts at 8, expected a multiple of 32, the alignment'],
    ["a tensor behind the end", (bytes) => void bytes.writeBigUInt64LE(64n, afterName(bytes) + 4 + 16 + 4),
      'truncated: tensor "token_embd.weight" ends at byte'],
    ["a tensor larger than the file", (bytes) => void bytes.writeBigUInt64LE(2n ** 40n, afterName(bytes) + 4),
      'truncated: tensor "token_embd.weight" ends at byte'],
  ])("%s", (_, damage, message) => {
    const path = file(damage);
    const text = expect.stringContaining(message);
    expect(failure(() => openGguf(path))).toEqual({ name: "CheckpointError", code: "E_CHECKPOINT", message: text });
    expect(failure(() => openGguf(path)).message).toContain(path);
  });

  test("every length of a truncated file", () => {
    const whole = readFileSync(file(() => {}));
    const path = join(temporaryFolder(), "short.gguf");
    for (let length = 0; length < whole.length; length += 7) {
      writeFileSync(path, whole.subarray(0, length));
      expect(failure(() => openGguf(path)), `${length} bytes`).toMatchObject({ name: "CheckpointError", code: "E_CHECKPOINT" });
    }
  });
});

describe("a file that cannot be read as it is", () => {
  test.each<[string, Record<string, GgufValue>, string]>([
    ["an alignment that is no power of two", { "general.alignment": 48 }, "general.alignment is 48, expected a power of two"],
    ["a part of a model", { "split.count": 3 }, "is one of 3 parts of a model; join them first: llama-gguf-split --merge"],
    ["numbers by layer", { "llama.attention.head_count": [1, 2] }, "llama.attention.head_count: expected a number, found a list of 2"],
    ["a text for a number", { "llama.block_count": "one" }, 'llama.block_count: expected a number, found "one"'],
  ])("%s", (_, changes, message) => {
    const path = file(() => {}, changes);
    expect(failure(() => openGguf(path))).toMatchObject({ code: "E_CHECKPOINT", message: expect.stringContaining(message) });
  });

  test("the same tensor twice", () => {
    const path = join(temporaryFolder(), "model.gguf");
    writeGguf(path, METADATA, [EMBEDDING, EMBEDDING]);
    expect(failure(() => openGguf(path)).message).toBe(`${path}: tensor "token_embd.weight" is there twice; the file is damaged`);
  });

  test("a configuration that transformers' model does not have", () => {
    const path = join(temporaryFolder(), "model.gguf");
    const renamed = Object.entries(METADATA).map(([key, value]) => [key.replace("llama.", "bloom."), value]);
    const bloom = { ...Object.fromEntries(renamed), "general.architecture": "bloom", "bloom.attention.layer_norm_epsilon": 1e-5 };
    writeGguf(path, bloom, [EMBEDDING]);
    expect(failure(() => openGguf(path)).message).toBe(
      `${path}: bloom.feed_forward_length is 8, expected 32: BLOOM's MLP is four times as wide as its layers`,
    );
  });
});
