import { basename } from "node:path";
import { CheckpointError, ConfigError } from "../../errors.ts";
import { ggufTokenizerMetadata } from "../../tokenizer/gguf-export.ts";
import type { TokenizerParts } from "../../tokenizer/parts.ts";
import { fromData } from "../../tensor/create.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { CheckpointSource } from "../checkpoint-source.ts";
import { configNumber, configValue, fileName, type GgufArchitecture } from "./architecture.ts";
import { exportArchitecture } from "./architectures/registry.ts";
import { float32, type GgufValue } from "./metadata.ts";
import { ENCODINGS, encodePieces, type GgufDtype } from "./quantize.ts";
import { toGguf } from "./value-change.ts";
import { type GgufTensorToWrite, writeGguf } from "./writer.ts";

/** Tensors of old checkpoints that are computed, not learned. */
const COMPUTED = /(rotary_emb\.inv_freq|\.(attn|attention)\.(masked_)?bias)$/;

/** What a file is made of. */
export interface GgufExport {
  source: CheckpointSource;
  tokenizer: TokenizerParts;
  /** Format of the matrices; vectors are float32, as llama.cpp's converter writes them. */
  dtype: GgufDtype;
}

/**
 * Writes a model and its tokenizer as a file that llama.cpp loads, one tensor after the other.
 *
 * @throws {ConfigError} for a model or tokenizer that llama.cpp does not have, naming what it lacks
 * @throws {CheckpointError} for a tensor that the architecture does not have
 */
export function exportGguf(path: string, { source, tokenizer, dtype }: GgufExport): void {
  const { config } = source;
  const architecture = exportArchitecture(config, source.path);
  checkFixed(architecture, source);
  const table = architecture.tensors["token_embd.weight"] ?? "";
  const rows = source.names().includes(table) ? source.shape(table)[0] : undefined;
  if (rows === undefined) throw new CheckpointError(`${source.path}: "${table}" is missing`);
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", architecture.name], ["general.type", "model"], ["general.name", basename(source.path).replace(/\.gguf$/, "")],
    ["general.file_type", ENCODINGS[dtype].fileType], ["general.quantization_version", 2],
    ...Object.entries(modelMetadata(architecture, source, rows)),
    ...Object.entries(ggufTokenizerMetadata(tokenizer, rows, source.path)),
  ]);
  writeGguf(path, metadata, tensorsOf(architecture, source, dtype));
}

/** llama.cpp computes some things in one way only. */
function checkFixed(architecture: GgufArchitecture, { config, path }: CheckpointSource): void {
  for (const [key, possible] of Object.entries(architecture.fixed)) {
    const value = configValue(config, key);
    if (value === undefined || possible.includes(value)) continue;
    throw new ConfigError(
      `${path}: config.json: "${key}" is ${JSON.stringify(value)}, llama.cpp's ${architecture.name} computes with ` +
        `${possible.map((one) => JSON.stringify(one)).join(" or ")}: it cannot be exported to GGUF`,
    );
  }
}

function modelMetadata(architecture: GgufArchitecture, { config }: CheckpointSource, rows: number): Record<string, GgufValue> {
  const numbers: Record<string, GgufValue> = { vocab_size: rows };
  for (const [name, keys] of Object.entries(architecture.counts)) numbers[name] = configNumber(config, keys);
  for (const [name, keys] of Object.entries(architecture.fractions)) numbers[name] = float32(configNumber(config, keys));
  const all = Object.entries({ ...numbers, ...architecture.metadata(config) });
  return Object.fromEntries(all.map(([key, value]) => [`${architecture.name}.${key}`, value]));
}

function tensorsOf(architecture: GgufArchitecture, source: CheckpointSource, dtype: GgufDtype): GgufTensorToWrite[] {
  const { config } = source;
  const head = architecture.tensors["output.weight"] ?? "", table = architecture.tensors["token_embd.weight"] ?? "";
  const isTied = config.tie_word_embeddings === true || !source.names().includes(head);
  const tensors: GgufTensorToWrite[] = [];
  const add = (name: string, shape: readonly number[], read: () => Tensor) => tensors.push(tensorToWrite({ name, shape, read, dtype }));
  for (const name of source.names()) {
    if (COMPUTED.test(name) || (isTied && name === head)) continue;
    const stored = fileName(architecture, name);
    if (stored === undefined) {
      throw new CheckpointError(
        `${source.path}: "${name}" is no tensor of llama.cpp's ${architecture.name}: it cannot be exported to GGUF`,
      );
    }
    const change = architecture.change?.(name, config), shape = source.shape(name);
    add(stored, change?.kind === "transpose" ? shape.toReversed() : shape, () => toGguf(source.read(name), change));
  }
  if (isTied && architecture.needsHead) add("output.weight", source.shape(table), () => source.read(table));
  for (const [name, values] of architecture.sideValues?.(config) ?? []) {
    add(name, [values.length], () => fromData(values, [values.length], "float32"));
  }
  return tensors;
}

/** A tensor in the file's format, or in one that can hold it: norms, biases and positions in float32, short rows in half precision. */
function tensorToWrite(
  { name, shape, read, dtype }: { name: string; shape: readonly number[]; read: () => Tensor; dtype: GgufDtype },
): GgufTensorToWrite {
  const isPlain = shape.length < 2 || name.endsWith("_norm.weight") || name === "position_embd.weight";
  const wanted = ENCODINGS[isPlain ? "f32" : dtype];
  const encoding = (shape.at(-1) ?? 1) % wanted.blockSize === 0 ? wanted : ENCODINGS.f16;
  const elements = shape.reduce((product, length) => product * length, 1);
  return {
    name, shape: shape.toReversed(), type: encoding.type, byteLength: (elements / encoding.blockSize) * encoding.blockBytes,
    bytes: () => encodePieces(read(), encoding),
  };
}
