import { closeSync, openSync, readSync, statSync } from "node:fs";
import { gguf, type GGUFParseOutput, type GGUFTensorInfo, GGMLQuantizationType } from "@huggingface/gguf";
import { CheckpointError } from "../../errors.ts";
import { ggufTokenizerParts } from "../../tokenizer/gguf-tokenizer.ts";
import type { TokenizerParts } from "../../tokenizer/parts.ts";
import { GGUF_FORMATS, type GgufFormat } from "./dequantize.ts";
import { llamaConfig, tokenIds } from "./llama-config.ts";
import { llamaTensorName } from "./tensor-names.ts";

/** A `.gguf` file, seen as the Hugging Face folder that it was made from. */
export interface GgufCheckpoint {
  /** As in `config.json`. */
  readonly config: Record<string, unknown>;
  /** As in `generation_config.json`. */
  readonly generationConfig: Record<string, unknown>;
  /**
   * Made on first use, so that a file with an unknown tokenizer still gives its weights.
   *
   * @throws as `ggufTokenizerParts`
   */
  readonly tokenizer: TokenizerParts;
  /** Tensor names as in the Hugging Face checkpoint: `model.layers.0.self_attn.q_proj.weight`, ... */
  names(): string[];
  /** Sizes in Hugging Face's order, `[out, in]` for a matrix. @throws {CheckpointError} for an unknown name */
  shape(name: string): number[];
  /**
   * Values in the order of `shape`, dequantised, the rows of `q_proj` and `k_proj` in Hugging Face's rotary order.
   *
   * @throws {CheckpointError} for an unknown name
   */
  read(name: string): Float32Array;
  /** Closes the file; `read` cannot be called after it. */
  close(): void;
}

/** Where a tensor lies and how to read it. */
interface Entry {
  shape: number[];
  format: GgufFormat;
  /** Byte offset in the file. */
  offset: number;
  byteLength: number;
}

/**
 * Opens a GGUF file of the architecture `llama` with tensors of types F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0.
 * Reads the header only; `read` then reads one tensor at a time.
 *
 * @throws {CheckpointError} for a missing, truncated or malformed file, another architecture, tensor or type
 */
export async function openGguf(path: string): Promise<GgufCheckpoint> {
  const { header, size } = await readHeader(path);
  const metadata: Record<string, unknown> = { ...header.metadata };
  const architecture = metadata["general.architecture"];
  if (architecture !== "llama") {
    throw new CheckpointError(
      `${path}: architecture ${JSON.stringify(architecture) ?? "(missing)"} is not supported in a GGUF file, expected "llama"`,
    );
  }
  const entries = new Map<string, Entry>();
  let frequencies: Entry | undefined;
  for (const info of header.tensorInfos) {
    const entry = tensorEntry(info, Number(header.tensorDataOffset), size, path);
    const name = llamaTensorName(info.name);
    if (name !== undefined) entries.set(name, entry);
    else if (info.name === "rope_freqs.weight") frequencies = entry;
    else throw new CheckpointError(`${path}: unexpected tensor "${info.name}" in a file of architecture llama`);
  }
  const vocabSize = entries.get("model.embed_tokens.weight")?.shape[0];
  if (vocabSize === undefined) throw new CheckpointError(`${path}: tensor "token_embd.weight" is missing`);

  const file = openSync(path, "r");
  try {
    const facts = {
      vocabSize,
      hasOutputHead: entries.has("lm_head.weight"),
      hasAttentionBias: entries.has("model.layers.0.self_attn.q_proj.bias"),
      hasMlpBias: entries.has("model.layers.0.mlp.up_proj.bias"),
      frequencyFactors: frequencies && readValues(file, frequencies, path),
    };
    return checkpoint({ path, file, metadata, entries, config: llamaConfig(metadata, facts, path) });
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

interface OpenFile {
  path: string;
  file: number;
  metadata: Record<string, unknown>;
  entries: ReadonlyMap<string, Entry>;
  config: Record<string, unknown>;
}

function checkpoint({ path, file, metadata, entries, config }: OpenFile): GgufCheckpoint {
  const find = (name: string): Entry => {
    const entry = entries.get(name);
    if (entry !== undefined) return entry;
    throw new CheckpointError(`${path}: tensor "${name}" is missing`);
  };
  const heads = { q_proj: Number(config["num_attention_heads"]), k_proj: Number(config["num_key_value_heads"]) };
  let tokenizer: TokenizerParts | undefined;
  return {
    config,
    generationConfig: tokenIds(metadata),
    get tokenizer() {
      tokenizer ??= ggufTokenizerParts(metadata, path);
      return tokenizer;
    },
    names: () => [...entries.keys()],
    shape: (name) => [...find(name).shape],
    read(name) {
      const entry = find(name);
      const values = readValues(file, entry, path);
      const projection = /\.(q_proj|k_proj)\./.exec(name)?.[1] as keyof typeof heads | undefined;
      return projection === undefined ? values : toRotaryHalves(values, entry.shape[0] ?? 0, heads[projection]);
    },
    close: () => closeSync(file),
  };
}

async function readHeader(path: string): Promise<{ header: GGUFParseOutput; size: number }> {
  try {
    const size = statSync(path).size;
    const header = await gguf(path, { allowLocalFile: true });
    // The library pads what it reads with zeros, so a header that was cut off parses as one with empty entries.
    const headerBytes = header.tensorInfoByteRange[1];
    if (headerBytes > size) throw new Error(`truncated: the header needs ${headerBytes} bytes, the file has ${size}`);
    if (!header.littleEndian) throw new Error("big-endian files are not supported");
    return { header, size };
  } catch (cause) {
    throw new CheckpointError(`${path}: cannot be read as a GGUF file: ${(cause as Error).message}`, { cause });
  }
}

function tensorEntry(info: GGUFTensorInfo, dataOffset: number, fileSize: number, path: string): Entry {
  const format = GGUF_FORMATS[info.dtype];
  if (format === undefined) {
    const found = GGMLQuantizationType[info.dtype] ?? `number ${info.dtype}`;
    const known = Object.values(GGUF_FORMATS)
      .map((known) => known.name)
      .join(", ");
    throw new CheckpointError(`${path}: tensor "${info.name}" is of type ${found}, expected one of ${known}; use a file quantised so`);
  }
  // GGUF has the fastest dimension first.
  const shape = info.shape.map(Number).reverse();
  const columns = shape.at(-1) ?? 1;
  if (columns % format.blockSize !== 0) {
    throw new CheckpointError(
      `${path}: tensor "${info.name}" is [${shape.join(", ")}], but rows of ${format.name} come in blocks of ${format.blockSize}`,
    );
  }
  const byteLength = (shape.reduce((product, size) => product * size, 1) / format.blockSize) * format.blockBytes;
  const offset = dataOffset + Number(info.offset);
  if (offset + byteLength > fileSize) {
    throw new CheckpointError(
      `${path}: truncated: tensor "${info.name}" ends at byte ${offset + byteLength}, the file has ${fileSize}; download it again`,
    );
  }
  return { shape, format, offset, byteLength };
}

function readValues(file: number, { format, offset, byteLength }: Entry, path: string): Float32Array {
  const data = new Uint8Array(byteLength);
  for (let done = 0; done < byteLength; ) {
    // One call gives at most 2 GiB on Linux.
    const count = readSync(file, data, done, Math.min(byteLength - done, 2 ** 30), offset + done);
    if (count === 0) throw new CheckpointError(`${path}: ended while it was read, at byte ${offset + done}`);
    done += count;
  }
  const blocks = byteLength / format.blockBytes;
  const values = new Float32Array(blocks * format.blockSize);
  format.dequantize(new DataView(data.buffer), blocks, values);
  return values;
}

/**
 * Undoes llama.cpp's order of the rows of q and k. It rotates neighbours (2i, 2i + 1) of a head where Hugging
 * Face rotates (i, i + headDim / 2), so its converter stores row `half * headDim / 2 + i` of a head as row `2 * i + half`.
 */
function toRotaryHalves(values: Float32Array, rows: number, numHeads: number): Float32Array {
  const out = new Float32Array(values.length);
  const columns = values.length / rows;
  const headDim = rows / numHeads;
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim;
    const half = inHead < headDim / 2 ? 0 : 1;
    const stored = row - inHead + 2 * (inHead - half * (headDim / 2)) + half;
    out.set(values.subarray(stored * columns, (stored + 1) * columns), row * columns);
  }
  return out;
}
