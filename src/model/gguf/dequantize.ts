/** Elements of a quantised block; a row of a tensor is a whole number of blocks. */
const BLOCK = 32;

/** A number format of GGUF tensors that can be read. */
export interface GgufFormat {
  name: string;
  /** Elements that are stored together. */
  blockSize: number;
  /** Bytes of one block. */
  blockBytes: number;
  /** Writes the values of `blocks` blocks, which start at byte 0 of `data`, into `out`. */
  dequantize: (data: DataView, blocks: number, out: Float32Array) => void;
}

/**
 * The readable formats by GGML's type number. Values equal those of llama.cpp's `gguf` package bit for bit: scale
 * times integer is exact in double precision, so that writing to float32 is the only rounding.
 */
export const GGUF_FORMATS: Readonly<Record<number, GgufFormat>> = {
  0: { name: "F32", blockSize: 1, blockBytes: 4, dequantize: plain((data, at) => data.getFloat32(at, true), 4) },
  1: { name: "F16", blockSize: 1, blockBytes: 2, dequantize: plain((data, at) => half(data.getUint16(at, true)), 2) },
  2: { name: "Q4_0", blockSize: BLOCK, blockBytes: 18, dequantize: nibbles({ bytes: 18, hasMinimum: false, hasFifthBit: false }) },
  3: { name: "Q4_1", blockSize: BLOCK, blockBytes: 20, dequantize: nibbles({ bytes: 20, hasMinimum: true, hasFifthBit: false }) },
  6: { name: "Q5_0", blockSize: BLOCK, blockBytes: 22, dequantize: nibbles({ bytes: 22, hasMinimum: false, hasFifthBit: true }) },
  7: { name: "Q5_1", blockSize: BLOCK, blockBytes: 24, dequantize: nibbles({ bytes: 24, hasMinimum: true, hasFifthBit: true }) },
  8: { name: "Q8_0", blockSize: BLOCK, blockBytes: 34, dequantize: bytes },
  30: { name: "BF16", blockSize: 1, blockBytes: 2, dequantize: bfloat16 },
};

/** IEEE half-precision bits to the number they stand for. */
function half(bits: number): number {
  return halves[bits] ?? Number.NaN;
}

const halves = Float32Array.from({ length: 0x10000 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
});

function plain(get: (data: DataView, at: number) => number, bytes: number): GgufFormat["dequantize"] {
  return (data, blocks, out) => {
    for (let i = 0; i < blocks; i++) out[i] = get(data, i * bytes);
  };
}

/** The upper half of a float32. */
function bfloat16(data: DataView, blocks: number, out: Float32Array): void {
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < blocks; i++) bits[i] = data.getUint16(i * 2, true) << 16;
}

/** Q8_0: `scale: f16, values: i8[32]`; `scale * value`. */
function bytes(data: DataView, blocks: number, out: Float32Array): void {
  for (let block = 0; block < blocks; block++) {
    const start = block * 34;
    const scale = half(data.getUint16(start, true));
    for (let i = 0; i < BLOCK; i++) out[block * BLOCK + i] = scale * data.getInt8(start + 2 + i);
  }
}

/**
 * Q4_0, Q4_1, Q5_0, Q5_1: `scale: f16, [minimum: f16], [fifth bits: u32], nibbles: u8[16]`. Byte `i` of the nibbles
 * has element `i` in its lower half and element `i + 16` in its upper half. With a minimum the value is
 * `scale * q + minimum`, without it `scale * (q - 8)`, or `scale * (q - 16)` with five bits.
 */
function nibbles(layout: { bytes: number; hasMinimum: boolean; hasFifthBit: boolean }): GgufFormat["dequantize"] {
  const { hasMinimum, hasFifthBit } = layout;
  const zero = hasMinimum ? 0 : hasFifthBit ? 16 : 8;
  const highAt = hasMinimum ? 4 : 2;
  const nibblesAt = hasFifthBit ? highAt + 4 : highAt;
  return (data, blocks, out) => {
    for (let block = 0; block < blocks; block++) {
      const start = block * layout.bytes;
      const scale = half(data.getUint16(start, true));
      const minimum = hasMinimum ? half(data.getUint16(start + 2, true)) : 0;
      const high = hasFifthBit ? data.getUint32(start + highAt, true) : 0;
      for (let i = 0; i < BLOCK / 2; i++) {
        const pair = data.getUint8(start + nibblesAt + i);
        const low = (pair & 0xf) | (((high >>> i) & 1) << 4);
        const upper = (pair >> 4) | (((high >>> (i + 16)) & 1) << 4);
        out[block * BLOCK + i] = scale * (low - zero) + minimum;
        out[block * BLOCK + i + 16] = scale * (upper - zero) + minimum;
      }
    }
  };
}
