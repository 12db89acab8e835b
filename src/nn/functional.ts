import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";

const op = { linear: operator("linear"), embedding: operator("embedding"), indexCopy: operator("index_copy") };

/** x @ weight^T + bias: [..., in] -> [..., out], weight [out, in], bias [out]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return new Tensor(op.linear(x.handle, weight.handle, bias?.handle ?? null));
}

/** Rows of `table` [rows, hidden] picked by int64 indices [...]: [..., hidden]. */
export function embedding(table: Tensor, index: Tensor): Tensor {
  return new Tensor(op.embedding(table.handle, index.handle));
}

/** The nonlinearities that decoders use. "gelu" is exact, "gelu-tanh" its tanh approximation. */
export type Activation = "silu" | "gelu" | "gelu-tanh" | "relu";

/** A copy of `x` with the rows named by `index` (int64) replaced by `rows`, with gradient. */
export function indexCopy(x: Tensor, index: Tensor, rows: Tensor): Tensor {
  return new Tensor(op.indexCopy(x.handle, 0, index.handle, rows.handle));
}
