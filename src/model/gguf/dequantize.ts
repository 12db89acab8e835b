import type { DType } from "../../native/binding.ts";
import { halfAt } from "./half.ts";
import {
  type Dequantize, dequantizeIq4Nl, dequantizeIq4Xs, dequantizeQ2K, dequantizeQ3K, dequantizeQ4K, dequantizeQ5K, dequantizeQ6K,
} from "./k-quants.ts";

/** A number format of GGUF tensors that can be read: plain numbers of a dtype, or blocks of a few bits an element. */
export type GgufFormat = PlainFormat | QuantisedFormat;

interface PlainFormat {
  name: string;
  blockSize: 1;
  blockBytes: number;
  dtype: DType;
}

interface QuantisedFormat {
  name: string;
  /** Elements that are stored together; a row of a tensor is a whole number of blocks. */
  blockSize: number;
  /** Bytes of one block. */
  blockBytes: number;
  dtype?: never;
  dequantize: Dequantize;
}

/** Elements of a block of the older formats. */
const BLOCK = 32;

/** What can be added without changing anything: 0 would turn -0 into 0. */
const NO_MINIMUM = -0;

/**
 * The readable formats by GGML's type number. Values equal those of llama.cpp's `gguf` package bit for bit: scale
 * times integer is exact in double precision, so that writing to float32 is the only rounding.
 */
export const GGUF_FORMATS: Readonly<Record<number, GgufFormat>> = {
  0: { name: "F32", blockSize: 1, blockBytes: 4, dtype: "float32" },
  1: { name: "F16", blockSize: 1, blockBytes: 2, dtype: "float16" },
  30: { name: "BF16", blockSize: 1, blockBytes: 2, dtype: "bfloat16" },
  2: { name: "Q4_0", blockSize: BLOCK, blockBytes: 18, dequantize: nibbles({ bytes: 18, hasMinimum: false, hasFifthBit: false }) },
  3: { name: "Q4_1", blockSize: BLOCK, blockBytes: 20, dequantize: nibbles({ bytes: 20, hasMinimum: true, hasFifthBit: false }) },
  6: { name: "Q5_0", blockSize: BLOCK, blockBytes: 22, dequantize: nibbles({ bytes: 22, hasMinimum: false, hasFifthBit: true }) },
  7: { name: "Q5_1", blockSize: BLOCK, blockBytes: 24, dequantize: nibbles({ bytes: 24, hasMinimum: true, hasFifthBit: true }) },
  8: { name: "Q8_0", blockSize: BLOCK, blockBytes: 34, dequantize: bytes },
  10: { name: "Q2_K", blockSize: 256, blockBytes: 84, dequantize: dequantizeQ2K },
  11: { name: "Q3_K", blockSize: 256, blockBytes: 110, dequantize: dequantizeQ3K },
  12: { name: "Q4_K", blockSize: 256, blockBytes: 144, dequantize: dequantizeQ4K },
  13: { name: "Q5_K", blockSize: 256, blockBytes: 176, dequantize: dequantizeQ5K },
  14: { name: "Q6_K", blockSize: 256, blockBytes: 210, dequantize: dequantizeQ6K },
  20: { name: "IQ4_NL", blockSize: BLOCK, blockBytes: 18, dequantize: dequantizeIq4Nl },
  23: { name: "IQ4_XS", blockSize: 256, blockBytes: 136, dequantize: dequantizeIq4Xs },
};

/** Names of formats that are not read, for messages. */
export const OTHER_FORMATS: Readonly<Record<number, string>> = {
  9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32",
  27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
};

/** Q8_0: `scale: f16, values: i8[32]`; `scale * value`. */
function bytes(data: DataView, blocks: number, out: Float32Array): void {
  for (let block = 0; block < blocks; block++) {
    const start = block * 34;
    const scale = halfAt(data, start);
    for (let i = 0; i < BLOCK; i++) out[block * BLOCK + i] = scale * data.getInt8(start + 2 + i);
  }
}

/**
 * Q4_0, Q4_1, Q5_0, Q5_1: `scale: f16, [minimum: f16], [fifth bits: u32], nibbles: u8[16]`. Byte `i` of the nibbles
 * has element `i` in its lower half and element `i + 16` in its upper half. With a minimum the value is
 * `scale * q + minimum`, without it `scale * (q - 8)`, or `scale * (q - 16)` with five bits.
 */
function nibbles(layout: { bytes: number; hasMinimum: boolean; hasFifthBit: boolean }): Dequantize {
  const { hasMinimum, hasFifthBit } = layout;
  const zero = hasMinimum ? 0 : hasFifthBit ? 16 : 8;
  const highAt = hasMinimum ? 4 : 2;
  const nibblesAt = hasFifthBit ? highAt + 4 : highAt;
  return (data, blocks, out) => {
    for (let block = 0; block < blocks; block++) {
      const start = block * layout.bytes, to = block * BLOCK;
      const scale = halfAt(data, start), minimum = hasMinimum ? halfAt(data, start + 2) : NO_MINIMUM;
      const high = hasFifthBit ? data.getUint32(start + highAt, true) : 0;
      for (let i = 0; i < BLOCK / 2; i++) {
        const pair = data.getUint8(start + nibblesAt + i);
        const low = (pair & 0xf) | (((high >>> i) & 1) << 4);
        const upper = (pair >> 4) | (((high >>> (i + 16)) & 1) << 4);
        out[to + i] = scale * (low - zero) + minimum;
        out[to + i + 16] = scale * (upper - zero) + minimum;
      }
    }
  };
}
