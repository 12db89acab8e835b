import { noGrad, segment } from "../tensor/autograd.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy, untracked } from "../tensor/tidy.ts";

const op = { linear: operator("linear"), embedding: operator("embedding"), indexCopy: operator("index_copy"), tanh: operator("tanh") };

/** x @ weight^T + bias: [..., in] -> [..., out], weight [out, in], bias [out]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return new Tensor(op.linear(x.handle, weight.handle, bias?.handle ?? null));
}

/**
 * Rows of `table` [rows, hidden] picked by int64 indices [n]: [n, hidden]. The table's gradient is added in place to `table.grad`, in its
 * dtype: libtorch's own derivative makes a second table and sums a token that occurs often in the table's dtype (1,024 times in bfloat16:
 * 25% off).
 */
export function embedding(table: Tensor, index: Tensor): Tensor {
  const kept = untracked(() => index.detach()); // backward may come when the caller's tensor and scope are gone
  const [rows] = segment([table], [noGrad(() => new Tensor(op.embedding(table.handle, index.handle)))], ([gradient]) => {
    const sum = table.grad;
    if (!sum) throw new Error("internal: the embedding trains but has no gradient buffer");
    if (gradient) tidy(() => void sum.indexAdd_(0, kept, gradient.to(sum.dtype)));
    return [undefined];
  });
  if (!rows) throw new Error("internal: a segment with one output gave none");
  return rows;
}

/** cap * tanh(x / cap) (arXiv:2408.00118). */
export function softcap(x: Tensor, cap: number): Tensor {
  return new Tensor(op.tanh(x.div(cap).handle)).mul(cap);
}

/** The nonlinearities that decoders use. "gelu" is exact, "gelu-tanh" its tanh approximation. */
export type Activation = "silu" | "gelu" | "gelu-tanh" | "relu";

/** A copy of `x` with the rows named by `index` (int64) replaced by `rows`, with gradient. */
export function indexCopy(x: Tensor, index: Tensor, rows: Tensor): Tensor {
  return new Tensor(op.indexCopy(x.handle, 0, index.handle, rows.handle));
}
