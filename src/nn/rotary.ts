import type { DType } from "../native/binding.ts";
import { arange, cat, fromNumbers } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** How rotary frequencies are stretched beyond the length that a model was pretrained on. */
export type RotaryScaling =
  | { kind: "none" }
  /** All positions divided by `factor` (arXiv:2306.15595). */
  | { kind: "linear"; factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, a ramp between. */
  | { kind: "llama3"; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositions: number }
  /** YaRN (arXiv:2309.00071): a ramp over dimensions, and attention scaled by `attentionFactor`. */
  | {
      kind: "yarn"; factor: number; betaFast: number; betaSlow: number; originalMaxPositions: number; attentionFactor: number;
      truncate: boolean;
    }
  /** LongRoPE (arXiv:2402.13753): every pair of dimensions has a factor of its own, and cos and sin are scaled by `attentionFactor`. */
  | { kind: "longrope"; factors: readonly number[]; attentionFactor: number };

/** Rotary position embedding (arXiv:2104.09864) over the first `dims` of each head, halves rotated against each other. */
export interface RotarySpec {
  dims: number;
  theta: number;
  scaling: RotaryScaling;
}

/** cos and signed sin of every position: [positions, dims]. */
export interface RotaryTables {
  cos: Tensor;
  signedSin: Tensor;
}

/** Angle per position of each pair of dimensions, [dims / 2], radians. */
export function rotaryFrequencies({ dims, theta, scaling }: RotarySpec): number[] {
  const plain = Array.from({ length: dims / 2 }, (_, i) => theta ** (-(2 * i) / dims));
  switch (scaling.kind) {
    case "none": return plain;
    case "linear": return plain.map((f) => f / scaling.factor);
    case "llama3": return plain.map((f) => {
      const wavelength = (2 * Math.PI) / f;
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = scaling;
      if (wavelength > originalMaxPositions / lowFreqFactor) return f / factor;
      if (wavelength < originalMaxPositions / highFreqFactor) return f;
      const smooth = (originalMaxPositions / wavelength - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
      return (1 - smooth) * (f / factor) + smooth * f;
    });
    case "yarn": {
      const { factor, betaFast, betaSlow, originalMaxPositions, truncate } = scaling;
      // The dimension whose wavelength fits `rotations` times into the original length.
      const dimensionOf = (rotations: number) =>
        (dims * Math.log(originalMaxPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      const fast = dimensionOf(betaFast), slow = dimensionOf(betaSlow);
      const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
      const high = Math.min(truncate ? Math.ceil(slow) : slow, dims - 1);
      return plain.map((f, i) => {
        const ramp = Math.min(Math.max((i - low) / Math.max(high - low, 0.001), 0), 1);
        return (f / factor) * ramp + f * (1 - ramp);
      });
    }
    case "longrope": return plain.map((f, i) => f / (scaling.factors[i] ?? 1));
  }
}

/** The tables of positions 0 .. numPositions - 1, in the dtype of the queries; angles are computed in float32. */
export function rotaryTables(spec: RotarySpec, numPositions: number, dtype: DType): RotaryTables {
  const frequencies = fromNumbers(rotaryFrequencies(spec), [spec.dims / 2], "float32");
  const angles = arange(0, numPositions).to("float32").unsqueeze(1).mul(frequencies); // [numPositions, dims / 2]
  const scale = "attentionFactor" in spec.scaling ? spec.scaling.attentionFactor : 1;
  const cos = angles.cos().mul(scale), sin = angles.sin().mul(scale);
  return { cos: cat([cos, cos], 1).to(dtype), signedSin: cat([sin.neg(), sin], 1).to(dtype) };
}
