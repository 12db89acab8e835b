import { type HeadShape, packedAttention } from "../../src/nn/attention.ts";
import type { RotaryTables } from "../../src/nn/rotary.ts";
import { cat } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { plainPackedAttention } from "../nn/plain-attention.ts";
import { random } from "./numbers.ts";
import { drawInputs, type Inputs, type Setting } from "./paged-attention.ts";

/** What packed sequences are drawn from. */
export interface Packed extends Pick<Setting, "dtype" | "heads" | "kvHeads" | "headDim" | "dims"> {
  lengths: readonly number[];
  /** Multiplies the rotary tables, as YaRN does. */
  factor?: number;
}

/** The sequences laid end to end, and what `packedAttention` wants to know. */
export interface Drawn {
  setting: Setting;
  inputs: Inputs;
  offsets: number[];
  shape: HeadShape;
  rotary: RotaryTables | undefined;
  /** [total, (heads + 2 kvHeads) * headDim] */
  projected: Tensor;
}

export function drawPacked({ lengths, factor = 1, ...sizes }: Packed): Drawn {
  const setting: Setting = { ...sizes, prompts: lengths, steps: 0 }, drawn = drawInputs(setting);
  const [cos, signedSin] = [drawn.cos?.mul(factor), drawn.signedSin?.mul(factor)], inputs = { ...drawn, cos, signedSin };
  const offsets = [0];
  for (const length of lengths) offsets.push((offsets.at(-1) ?? 0) + length);
  return {
    setting, inputs, offsets,
    shape: { numHeads: sizes.heads, numKvHeads: sizes.kvHeads, headDim: sizes.headDim },
    rotary: cos && signedSin ? { cos, signedSin } : undefined, projected: cat(inputs.rows),
  };
}

/** The kernel's result, and libtorch's in the dtype of what they are given. */
export const attend = ({ offsets, shape, rotary }: Drawn, projected: Tensor): Tensor =>
  packedAttention(offsets, shape, [{
    cos: rotary?.cos, signedSin: rotary?.signedSin, slopes: undefined, scores: [shape.headDim ** -0.5, 0, 0, null],
  }]).attend(0, projected);
export const attendPlainly = ({ offsets, shape, rotary }: Drawn, projected: Tensor): Tensor =>
  plainPackedAttention(offsets, shape, rotary && {
    cos: rotary.cos.to(projected.dtype), signedSin: rotary.signedSin.to(projected.dtype),
  }, projected);

/** What the results of a setting are multiplied with before they are summed. */
export const slopeOf = ({ shape, setting, projected }: Drawn): Tensor =>
  random([projected.shape[0] ?? 0, shape.numHeads * shape.headDim], 9, setting.dtype);

/** Gradient of sum(slope * attention) in the dtype of `projected`, which is the drawn one unless given. */
export function gradientOf(operation: typeof attend, drawn: Drawn, projected = drawn.projected): Tensor {
  const leaf = projected.detach().requiresGrad_();
  operation(drawn, leaf).mul(slopeOf(drawn).to(projected.dtype)).sum().backward();
  return leaf.grad as Tensor;
}
