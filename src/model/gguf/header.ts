import { statSync } from "node:fs";
import { GGMLQuantizationType, type GGUFParseOutput, type GGUFTensorInfo, gguf } from "@huggingface/gguf";
import { CheckpointError } from "../../errors.ts";
import { GGUF_FORMATS, type GgufFormat } from "./dequantize.ts";

/** Where a tensor lies and how to read it. */
export interface GgufTensor {
  /** Hugging Face's order, `[out, in]` for a matrix. */
  shape: number[];
  elements: number;
  format: GgufFormat;
  /** Byte offset in the file. */
  offset: number;
}

/** What stands before the data of a GGUF file. */
export interface GgufHeader {
  /** Metadata by key. */
  values: Readonly<Record<string, unknown>>;
  /** Tensors by their names in the file. */
  tensors: ReadonlyMap<string, GgufTensor>;
  /** Bytes of the file. */
  size: number;
}

/**
 * Reads the header and checks that every tensor is whole.
 *
 * @throws {CheckpointError} for a missing, truncated or malformed file, or a tensor of an unknown type
 */
export async function readGgufHeader(path: string): Promise<GgufHeader> {
  const { header, size } = await parse(path);
  const values: Record<string, unknown> = { ...header.metadata };
  const parts = Number(values["split.count"] ?? 1);
  if (parts > 1) {
    throw new CheckpointError(`${path}: is one of ${parts} parts of a model; join them first: llama-gguf-split --merge FIRST_PART OUTPUT`);
  }
  const alignment = Number(values["general.alignment"] ?? 32);
  if (!Number.isInteger(alignment) || alignment < 1 || (alignment & (alignment - 1)) !== 0) {
    throw new CheckpointError(`${path}: general.alignment is ${alignment}, expected a power of two; the file is damaged`);
  }
  const tensors = new Map<string, GgufTensor>();
  for (const info of header.tensorInfos) {
    if (tensors.has(info.name)) throw new CheckpointError(`${path}: tensor "${info.name}" is there twice; the file is damaged`);
    if (info.offset % BigInt(alignment) !== 0n) {
      throw new CheckpointError(
        `${path}: tensor "${info.name}" starts at ${info.offset}, expected a multiple of the alignment, ${alignment}; the file is damaged`,
      );
    }
    tensors.set(info.name, tensorOf(info, Number(header.tensorDataOffset), size, path));
  }
  return { values, tensors, size };
}

async function parse(path: string): Promise<{ header: GGUFParseOutput; size: number }> {
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

function tensorOf(info: GGUFTensorInfo, dataOffset: number, fileSize: number, path: string): GgufTensor {
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
  const elements = shape.reduce((product, size) => product * size, 1);
  const byteLength = (elements / format.blockSize) * format.blockBytes;
  const offset = dataOffset + Number(info.offset);
  if (!(offset + byteLength <= fileSize)) {
    throw new CheckpointError(
      `${path}: truncated: tensor "${info.name}" ends at byte ${offset + byteLength}, the file has ${fileSize}; download it again`,
    );
  }
  return { shape, elements, format, offset };
}
