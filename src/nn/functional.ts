import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";

const op = {
  linear: operator("linear"), embedding: operator("embedding"),
  rmsNorm: operator("rms_norm"), layerNorm: operator("layer_norm"),
  silu: operator("silu"), gelu: operator("gelu"), relu: operator("relu"), attention: operator("scaled_dot_product_attention"),
  roll: operator("roll"), addcmul: operator("addcmul"), indexCopy: operator("index_copy"), bmm: operator("bmm"),
};

/** x @ weight^T + bias: [..., in] -> [..., out], weight [out, in], bias [out]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return new Tensor(op.linear(x.handle, weight.handle, bias?.handle ?? null));
}

/** Rows of `table` [rows, hidden] picked by int64 indices [...]: [..., hidden]. */
export function embedding(table: Tensor, index: Tensor): Tensor {
  return new Tensor(op.embedding(table.handle, index.handle));
}

/** x / sqrt(mean(x^2) + eps) * weight over the last dimension (arXiv:1910.07467, eq. 4); computed in float32 inside. */
export function rmsNorm(x: Tensor, weight: Tensor | undefined, eps: number): Tensor {
  return new Tensor(op.rmsNorm(x.handle, [x.shape.at(-1) ?? 1], weight?.handle ?? null, eps));
}

/** (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension (arXiv:1607.06450, eq. 4); computed in float32 inside. */
export function layerNorm(x: Tensor, weight: Tensor | undefined, bias: Tensor | undefined, eps: number): Tensor {
  return new Tensor(op.layerNorm(x.handle, [x.shape.at(-1) ?? 1], weight?.handle ?? null, bias?.handle ?? null, eps));
}

/** The nonlinearities that decoders use. "gelu" is exact, "gelu-tanh" its tanh approximation. */
export type Activation = "silu" | "gelu" | "gelu-tanh" | "relu";

/** The activation of every element, in the dtype of `x`. */
export function activate(x: Tensor, activation: Activation): Tensor {
  switch (activation) {
    case "silu": return new Tensor(op.silu(x.handle));
    case "relu": return new Tensor(op.relu(x.handle));
    case "gelu": return new Tensor(op.gelu(x.handle, "none"));
    case "gelu-tanh": return new Tensor(op.gelu(x.handle, "tanh"));
  }
}

/**
 * softmax(q k^T * scale + causal mask) v, the mask letting query i see keys 0..i.
 *
 * @param q [batch, heads, seq, headDim]; `k` and `v` have the same shape (grouped heads already expanded)
 */
export function causalAttention(q: Tensor, k: Tensor, v: Tensor, scale: number): Tensor {
  return new Tensor(op.attention(q.handle, k.handle, v.handle, null, 0, true, scale));
}

/** Elements moved by `shift` places along the last dimension, those that leave coming back at the start. */
export function roll(x: Tensor, shift: number): Tensor {
  return new Tensor(op.roll(x.handle, [shift], [-1]));
}

/** x + a * b. */
export function addcmul(x: Tensor, a: Tensor, b: Tensor): Tensor {
  return new Tensor(op.addcmul(x.handle, a.handle, b.handle));
}

/** A copy of `x` with the rows named by `index` (int64) replaced by `rows`, with gradient. */
export function indexCopy(x: Tensor, index: Tensor, rows: Tensor): Tensor {
  return new Tensor(op.indexCopy(x.handle, 0, index.handle, rows.handle));
}

/** Batched product: [n, a, b] @ [n, b, c] -> [n, a, c]. */
export function bmm(x: Tensor, y: Tensor): Tensor {
  return new Tensor(op.bmm(x.handle, y.handle));
}
