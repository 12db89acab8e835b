import { CheckpointError } from "../../errors.ts";
import type { DType } from "../../native/binding.ts";
import { noGrad } from "../../tensor/autograd.ts";
import { empty, fromData, mapFile } from "../../tensor/create.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { tidy } from "../../tensor/tidy.ts";
import { ggufTokenizerParts } from "../../tokenizer/gguf-tokenizer.ts";
import type { TokenizerParts } from "../../tokenizer/parts.ts";
import { folderName, type GgufArchitecture, type GgufFacts } from "./architecture.ts";
import { architectureOf } from "./architectures/registry.ts";
import { type GgufTensor, readGgufFile } from "./header.ts";
import { GgufMetadata, tokenIds } from "./metadata.ts";
import { fromGguf } from "./value-change.ts";

/** A `.gguf` file, seen as the Hugging Face folder that it was made from. */
export interface GgufCheckpoint {
  /** As in `config.json`, in the spelling of transformers 4. */
  readonly config: Record<string, unknown>;
  /** As in `generation_config.json`. */
  readonly generationConfig: Record<string, unknown>;
  /** Dtype of the largest tensor; undefined where that is quantised. */
  readonly dtype: DType | undefined;
  /**
   * Undefined where the file has none. Made on first use, so that a file with an unknown tokenizer still gives its weights.
   *
   * @throws as `ggufTokenizerParts`
   */
  readonly tokenizer: TokenizerParts | undefined;
  /** Tensor names as in the Hugging Face checkpoint: `model.layers.0.self_attn.q_proj.weight`, ... */
  names(): string[];
  /** Sizes in Hugging Face's order, `[out, in]` for a matrix. @throws {CheckpointError} for an unknown name */
  shape(name: string): number[];
  /**
   * The tensor as the Hugging Face folder has it (rows in its order, norms without llama.cpp's offset): float32 where it is quantised,
   * otherwise in its own dtype. It may be a view of the mapped file and must not be written to.
   *
   * @throws {CheckpointError} for an unknown name
   */
  read(name: string): Tensor;
}

/** Elements that are dequantised at once, so that beside a tensor only a few megabytes are needed. */
const CHUNK = 2 ** 22;

/**
 * Opens a GGUF file with tensors of the types in `GGUF_FORMATS`. Reads the header only; `read` then reads one tensor at a time.
 *
 * @throws {CheckpointError} for a missing, truncated or malformed file, another architecture, tensor or type
 */
export function openGguf(path: string): GgufCheckpoint {
  const header = readGgufFile(path);
  const architecture = architectureOf(header.metadata["general.architecture"], path);
  const mapped = mapFile(path, header.size);
  const tensors = new Map<string, GgufTensor>();
  const side = new Map<string, GgufTensor>();
  for (const [stored, tensor] of header.tensors) {
    const name = folderName(architecture, stored, (other) => header.tensors.has(other));
    if (name !== undefined) tensors.set(name, tensor);
    else if (architecture.sideTensors?.includes(stored)) side.set(stored, tensor);
    else throw new CheckpointError(`${path}: unexpected tensor "${stored}" in a file of architecture ${architecture.name}`);
  }
  const config = configOf(architecture, header.metadata, {
    metadata: new GgufMetadata(header.metadata, architecture.name, path),
    has: (name) => tensors.has(name),
    side: (name) => {
      const tensor = side.get(name);
      return tensor && (valuesOf(mapped, tensor).data() as Float32Array);
    },
  }, tensors);
  const find = (name: string): GgufTensor => {
    const tensor = tensors.get(name);
    if (tensor !== undefined) return tensor;
    throw new CheckpointError(`${path}: tensor "${name}" is missing`);
  };
  const change = (name: string) => architecture.change?.(name, config);
  const hasTokenizer = ![undefined, "none"].includes(header.metadata["tokenizer.ggml.model"] as string | undefined);
  let tokenizer: TokenizerParts | undefined;
  return {
    config,
    generationConfig: tokenIds(header.metadata),
    dtype: largest([...tensors.values()])?.format.dtype,
    get tokenizer() {
      if (hasTokenizer) tokenizer ??= ggufTokenizerParts(header.metadata, path);
      return tokenizer;
    },
    names: () => [...tensors.keys()],
    shape: (name) => (change(name)?.kind === "transpose" ? find(name).shape.toReversed() : [...find(name).shape]),
    read: (name) => {
      const tensor = find(name);
      return noGrad(() => fromGguf(valuesOf(mapped, tensor), change(name)));
    },
  };
}

function configOf(
  architecture: GgufArchitecture, values: Readonly<Record<string, unknown>>, facts: GgufFacts, tensors: ReadonlyMap<string, GgufTensor>,
): Record<string, unknown> {
  const { metadata } = facts;
  const folder = (file: string) => architecture.tensors[file] ?? "";
  const vocabSize = tensors.get(folder("token_embd.weight"))?.shape[0];
  if (vocabSize === undefined) throw new CheckpointError(`${metadata.source}: tensor "token_embd.weight" is missing`);
  const numbers: Record<string, unknown> = {};
  // Where older configurations have another key, the newer one stands first.
  const key = (keys: string) => keys.split("|", 1)[0] ?? keys;
  for (const table of [architecture.counts, architecture.fractions]) {
    for (const [name, keys] of Object.entries(table)) numbers[key(keys)] = metadata.number(name);
  }
  for (const [name, keys] of Object.entries(architecture.optionalCounts ?? {})) {
    const value = metadata.optional(name);
    if (value !== undefined) numbers[key(keys)] = value;
  }
  return {
    architectures: [architecture.className],
    model_type: architecture.modelTypes[0],
    vocab_size: vocabSize,
    tie_word_embeddings: !tensors.has(folder("output.weight")),
    ...Object.fromEntries(Object.entries(architecture.fixed).map(([name, [first]]) => [name, first])),
    ...architecture.config(facts),
    ...numbers,
    ...tokenIds(values),
  };
}

function largest(tensors: readonly GgufTensor[]): GgufTensor | undefined {
  return tensors.reduce<GgufTensor | undefined>((best, tensor) => (best && best.elements >= tensor.elements ? best : tensor), undefined);
}

/** The values as the file has them: a view where they are plain numbers, dequantised otherwise. */
function valuesOf(mapped: Tensor, { format, offset, elements, shape }: GgufTensor): Tensor {
  const bytesOf = (count: number) => (count / format.blockSize) * format.blockBytes;
  if (format.dtype !== undefined) {
    const bytes = mapped.slice(0, offset, offset + bytesOf(elements));
    // A view of wider elements must start at a multiple of their size; an alignment of the file's own may not be one.
    return (offset % format.blockBytes === 0 ? bytes : bytes.clone()).viewAs(format.dtype).reshape(shape);
  }
  const values = new Float32Array(Math.min(CHUNK, elements));
  const dequantised = (from: number, count: number): Tensor => {
    const start = offset + bytesOf(from), bytes = mapped.slice(0, start, start + bytesOf(count)).bytes();
    format.dequantize(new DataView(bytes.buffer), count / format.blockSize, values);
    return fromData(values.subarray(0, count), [count], "float32");
  };
  if (elements <= CHUNK) return dequantised(0, elements).reshape(shape);
  const all = empty([elements]);
  for (let from = 0; from < elements; from += CHUNK) {
    const count = Math.min(CHUNK, elements - from);
    tidy(() => void all.slice(0, from, from + count).copy_(dequantised(from, count)));
  }
  return all.reshape(shape);
}
