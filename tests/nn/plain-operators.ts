// libtorch's operators for what src/ computes in kernels of its own: the second implementation that tests compare with.
import type { Activation } from "../../src/nn/functional.ts";
import type { Norm } from "../../src/nn/layer-product.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

const op = {
  rmsNorm: operator("rms_norm"), layerNorm: operator("layer_norm"), silu: operator("silu"), gelu: operator("gelu"),
  relu: operator("relu"), attention: operator("scaled_dot_product_attention"), roll: operator("roll"),
};

/** x normalised over the last dimension. */
export function plainNorm(x: Tensor, { kind, weight, bias, eps }: Norm): Tensor {
  const [shape, w] = [[x.shape.at(-1) ?? 1], weight?.handle ?? null];
  if (kind === "layer") return new Tensor(op.layerNorm(x.handle, shape, w, bias?.handle ?? null, eps));
  const normed = new Tensor(op.rmsNorm(x.handle, shape, w, eps));
  return bias ? normed.add(bias) : normed;
}

/** The activation of every element, in the dtype of `x`. */
export function activate(x: Tensor, activation: Activation): Tensor {
  switch (activation) {
    case "silu": return new Tensor(op.silu(x.handle));
    case "relu": return new Tensor(op.relu(x.handle));
    case "gelu": return new Tensor(op.gelu(x.handle, "none"));
    case "gelu-tanh": return new Tensor(op.gelu(x.handle, "tanh"));
  }
}

/** softmax(q k^T * scale) v of [1, heads, seq, headDim] each, query i seeing keys 0..i. */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, scale: number): Tensor {
  return new Tensor(op.attention(q.handle, k.handle, v.handle, null, 0, true, scale));
}

/** Elements moved by `shift` places along the last dimension, those that leave coming back at the start. */
export function roll(x: Tensor, shift: number): Tensor {
  return new Tensor(op.roll(x.handle, [shift], [-1]));
}
