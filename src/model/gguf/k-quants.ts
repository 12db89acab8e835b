import { halfAt } from "./half.ts";

/** Elements of a super-block of the K-quants; its sub-blocks have 16 or 32. */
const SUPER = 256;

/** Writes the values of `blocks` blocks, which start at byte 0 of `data`, into `out`. */
export type Dequantize = (data: DataView, blocks: number, out: Float32Array) => void;

// Products of a scale, a sub-block's scale and a quantised integer have at most 24 bits: they are exact in double and in float32, so a
// value has one rounding, that of its difference to the minimum. The order of the formats' bytes is that of ggml-common.h.

/** Q2_K: `scales and minima: u4 x 2 [16], quants: u2[256], scale: f16, minimum: f16` (84 bytes); `scale * s * q - minimum * m`. */
export const dequantizeQ2K: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 84;
    const scale = halfAt(data, start + 80), minimum = halfAt(data, start + 82);
    for (let sub = 0; sub < 16; sub++) {
      const packed = data.getUint8(start + sub);
      const factor = scale * (packed & 0xf), least = minimum * (packed >> 4);
      // 32 bytes hold 128 elements: two bits of each for every run of 32.
      const quants = start + 16 + (sub >> 3) * 32 + (sub & 1) * 16, shift = ((sub >> 1) & 3) * 2;
      const to = block * SUPER + sub * 16;
      for (let i = 0; i < 16; i++) out[to + i] = factor * ((data.getUint8(quants + i) >> shift) & 3) - least;
    }
  }
};

/** Q3_K: `high bits: u1[256], quants: u2[256], scales: u6[16], scale: f16` (110 bytes); `scale * (s - 32) * (q - 4)`. */
export const dequantizeQ3K: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 110;
    const scale = halfAt(data, start + 108);
    for (let sub = 0; sub < 16; sub++) {
      const low = (data.getUint8(start + 96 + (sub & 7)) >> ((sub >> 3) * 4)) & 0xf;
      const high = (data.getUint8(start + 104 + (sub & 3)) >> ((sub >> 2) * 2)) & 3;
      const factor = scale * ((low | (high << 4)) - 32);
      const run = sub >> 1, within = (sub & 1) * 16;
      const quants = start + 32 + (run >> 2) * 32 + within, shift = (run & 3) * 2, highBits = start + within;
      const to = block * SUPER + sub * 16;
      for (let i = 0; i < 16; i++) {
        const bits = (data.getUint8(quants + i) >> shift) & 3;
        // The third bit is stored the other way round: where it is missing, 4 is taken away.
        const third = (data.getUint8(highBits + i) >> run) & 1;
        out[to + i] = factor * (bits - (third === 1 ? 0 : 4));
      }
    }
  }
};

/** Scale and minimum number `sub` of the 12 bytes that hold eight of each in six bits. */
function scaleOf(data: DataView, at: number, sub: number): number {
  if (sub < 4) return data.getUint8(at + sub) & 0x3f;
  return (data.getUint8(at + 4 + sub) & 0xf) | ((data.getUint8(at + sub - 4) >> 6) << 4);
}

function minimumOf(data: DataView, at: number, sub: number): number {
  if (sub < 4) return data.getUint8(at + 4 + sub) & 0x3f;
  return (data.getUint8(at + 4 + sub) >> 4) | ((data.getUint8(at + sub) >> 6) << 4);
}

/** Q4_K: `scale: f16, minimum: f16, scales and minima: u6[8] each, quants: u4[256]` (144 bytes); `scale * s * q - minimum * m`. */
export const dequantizeQ4K: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 144;
    const scale = halfAt(data, start), minimum = halfAt(data, start + 2);
    for (let sub = 0; sub < 8; sub++) {
      const factor = scale * scaleOf(data, start + 4, sub), least = minimum * minimumOf(data, start + 4, sub);
      const quants = start + 16 + (sub >> 1) * 32, shift = (sub & 1) * 4;
      const to = block * SUPER + sub * 32;
      for (let i = 0; i < 32; i++) out[to + i] = factor * ((data.getUint8(quants + i) >> shift) & 0xf) - least;
    }
  }
};

/** Q5_K: as Q4_K with `fifth bits: u1[256]` before the quants (176 bytes). */
export const dequantizeQ5K: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 176;
    const scale = halfAt(data, start), minimum = halfAt(data, start + 2);
    for (let sub = 0; sub < 8; sub++) {
      const factor = scale * scaleOf(data, start + 4, sub), least = minimum * minimumOf(data, start + 4, sub);
      const fifth = start + 16, quants = start + 48 + (sub >> 1) * 32, shift = (sub & 1) * 4;
      const to = block * SUPER + sub * 32;
      for (let i = 0; i < 32; i++) {
        const high = (data.getUint8(fifth + i) >> sub) & 1;
        out[to + i] = factor * (((data.getUint8(quants + i) >> shift) & 0xf) | (high << 4)) - least;
      }
    }
  }
};

/** Q6_K: `low quants: u4[256], high quants: u2[256], scales: i8[16], scale: f16` (210 bytes); `scale * s * (q - 32)`. */
export const dequantizeQ6K: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 210;
    const scale = halfAt(data, start + 208);
    for (let sub = 0; sub < 16; sub++) {
      const factor = scale * data.getInt8(start + 192 + sub);
      const run = sub >> 1, within = (sub & 1) * 16;
      // Runs of 32: 0 and 1 are the lower halves of 64 bytes, 2 and 3 the upper ones; the high bits of 0 to 3 share 32 bytes.
      const low = start + (run >> 2) * 64 + (run & 1) * 32 + within, lowShift = ((run >> 1) & 1) * 4;
      const high = start + 128 + (run >> 2) * 32 + within, highShift = (run & 3) * 2;
      const to = block * SUPER + sub * 16;
      for (let i = 0; i < 16; i++) {
        const quant = ((data.getUint8(low + i) >> lowShift) & 0xf) | (((data.getUint8(high + i) >> highShift) & 3) << 4);
        out[to + i] = factor * (quant - 32);
      }
    }
  }
};

/** The sixteen steps of the IQ4 formats. */
const STEPS = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** IQ4_NL: `scale: f16, quants: u4[32]` (18 bytes); `scale * STEPS[q]`. */
export const dequantizeIq4Nl: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    steps(data, block * 18 + 2, halfAt(data, block * 18), out, block * 32);
  }
};

/** IQ4_XS: `scale: f16, high scales: u2[8], low scales: u4[8], quants: u4[256]` (136 bytes); `scale * (s - 32) * STEPS[q]`. */
export const dequantizeIq4Xs: Dequantize = (data, blocks, out) => {
  for (let block = 0; block < blocks; block++) {
    const start = block * 136;
    const scale = halfAt(data, start), highScales = data.getUint8(start + 2) | (data.getUint8(start + 3) << 8);
    for (let sub = 0; sub < 8; sub++) {
      const low = (data.getUint8(start + 4 + (sub >> 1)) >> ((sub & 1) * 4)) & 0xf;
      const factor = scale * ((low | (((highScales >> (2 * sub)) & 3) << 4)) - 32);
      steps(data, start + 8 + sub * 16, factor, out, block * SUPER + sub * 32);
    }
  }
};

/** 32 values from 16 bytes: the lower halves first, then the upper ones. */
function steps(data: DataView, from: number, factor: number, out: Float32Array, to: number): void {
  for (let i = 0; i < 16; i++) {
    const pair = data.getUint8(from + i);
    out[to + i] = factor * (STEPS[pair & 0xf] ?? 0);
    out[to + 16 + i] = factor * (STEPS[pair >> 4] ?? 0);
  }
}
