import { CheckpointError } from "../../errors.ts";
import { type GgufHeader, type GgufTensorInfo, readGgufHeader } from "../../tokenizer/gguf-header.ts";
import { GGUF_FORMATS, type GgufFormat, OTHER_FORMATS } from "./dequantize.ts";

/** Where a tensor lies and how to read it. */
export interface GgufTensor {
  /** Hugging Face's order, `[out, in]` for a matrix. */
  shape: number[];
  elements: number;
  format: GgufFormat;
  /** Byte offset in the file. */
  offset: number;
}

/** A GGUF file whose tensors are all there and readable. */
export interface GgufFile {
  metadata: GgufHeader["metadata"];
  /** Tensors by their names in the file. */
  tensors: ReadonlyMap<string, GgufTensor>;
  /** Bytes of the file. */
  size: number;
}

/**
 * Reads the header and checks that every tensor is whole.
 *
 * @throws {CheckpointError} for a missing, truncated or malformed file, a part of one, or a tensor of an unknown type
 */
export function readGgufFile(path: string): GgufFile {
  const header = readGgufHeader(path);
  const parts = Number(header.metadata["split.count"] ?? 1);
  if (parts > 1) {
    throw new CheckpointError(`${path}: is one of ${parts} parts of a model; join them first: llama-gguf-split --merge FIRST_PART OUTPUT`);
  }
  const tensors = new Map<string, GgufTensor>();
  for (const info of header.tensors) {
    if (tensors.has(info.name)) throw new CheckpointError(`${path}: tensor "${info.name}" is there twice; the file is damaged`);
    tensors.set(info.name, tensorOf(info, header, path));
  }
  return { metadata: header.metadata, tensors, size: header.size };
}

function tensorOf(info: GgufTensorInfo, { dataStart, alignment, size }: GgufHeader, path: string): GgufTensor {
  const format = GGUF_FORMATS[info.type];
  if (format === undefined) {
    const found = OTHER_FORMATS[info.type] ?? `number ${info.type}`;
    const known = Object.values(GGUF_FORMATS).map(({ name }) => name).join(", ");
    throw new CheckpointError(`${path}: tensor "${info.name}" is of type ${found}, expected one of ${known}; use a file quantised so`);
  }
  if (info.offset % alignment !== 0) {
    throw new CheckpointError(
      `${path}: tensor "${info.name}" starts at ${info.offset}, expected a multiple of ${alignment}, the alignment; the file is damaged`,
    );
  }
  const shape = info.shape.toReversed();
  const columns = shape.at(-1) ?? 1;
  if (columns % format.blockSize !== 0) {
    throw new CheckpointError(
      `${path}: tensor "${info.name}" is [${shape.join(", ")}], but rows of ${format.name} come in blocks of ${format.blockSize}`,
    );
  }
  const elements = shape.reduce((product, length) => product * length, 1);
  const end = dataStart + info.offset + (elements / format.blockSize) * format.blockBytes;
  if (end > size) {
    throw new CheckpointError(
      `${path}: truncated: tensor "${info.name}" ends at byte ${end}, the file has ${size}; download it again`,
    );
  }
  return { shape, elements, format, offset: dataStart + info.offset };
}
