import { noGrad } from "../tensor/autograd.ts";
import { cat, Generator, rand, zeros } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type Activation, linear } from "./functional.ts";
import { layerProduct, type LayerProduct, normalize } from "./layer-product.ts";
import type { BlockLora } from "./lora.ts";

const op = { silu: operator("silu"), gelu: operator("gelu"), relu: operator("relu") };

/**
 * The product of training with dropout on the adapters' input, as PEFT has it: activation(norm(x) W^T + scale drop(norm(x)) A^T B^T). W'
 * does not exist then, so it is computed in separate operators; blocks without adapters compute as ever.
 *
 * @param seedOf seed of the mask of a linear; the same one when a layer is computed again going backward
 */
export function droppedProduct(rate: number, seedOf: (module: string) => number): LayerProduct {
  return (x, block, matrix, extras = {}) => {
    const { lora } = block;
    if (!lora?.of(matrix)) return layerProduct(x, block, matrix, extras);
    const { norm, activation, gated = false, residual } = extras;
    const normed = norm ? normalize(x, norm) : x;
    const product = linear(normed, lora.baseOf(matrix), block.find(`${matrix}Bias`)).add(lowRank(normed, lora, matrix, rate, seedOf));
    const width = product.shape[1] ?? 0;
    const [gate, up] = gated ? (product.split([width / 2, width / 2], 1) as [Tensor, Tensor]) : [product, undefined];
    const activated = activation ? activate(gate, activation) : gate;
    const result = up ? activated.mul(up) : activated;
    return residual ? residual.add(result) : result;
  };
}

/** scale drop(x) A^T B^T of every linear side by side, 0 where a linear has no adapter: [tokens, out]. */
function lowRank(x: Tensor, lora: BlockLora, matrix: string, rate: number, seedOf: (module: string) => number): Tensor {
  const [tokens = 0] = x.shape, pieces: Tensor[] = [];
  let end = 0;
  const padTo = (row: number) => {
    if (row > end) pieces.push(zeros([tokens, row - end], x.dtype));
  };
  for (const { module, row, rows } of lora.linearsOf(matrix)) {
    padTo(row);
    const { a, b } = lora.factorsOf(module);
    pieces.push(linear(linear(drop(x, rate, seedOf(module)), a.to(x.dtype)), b.to(x.dtype)).mul(lora.scale));
    end = row + rows;
  }
  padTo(lora.baseOf(matrix).shape[0] ?? 0);
  return cat(pieces, 1);
}

/** Each element is 0 with probability `rate`, else x / (1 - rate). */
function drop(x: Tensor, rate: number, seed: number): Tensor {
  const kept = noGrad(() => rand(x.shape, new Generator(seed)).less(1 - rate).to(x.dtype).mul(1 / (1 - rate)));
  return x.mul(kept);
}

function activate(x: Tensor, activation: Activation): Tensor {
  switch (activation) {
    case "silu": return new Tensor(op.silu(x.handle));
    case "gelu": return new Tensor(op.gelu(x.handle));
    case "gelu-tanh": return new Tensor(op.gelu(x.handle, "tanh"));
    case "relu": return new Tensor(op.relu(x.handle));
    default: return activation satisfies never;
  }
}
