import { empty } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import type { Activation } from "./functional.ts";
import type { ParameterBlock } from "./parameter-block.ts";

const op = { layerProduct: operator("tschat::layer_product"), normRows: operator("tschat::norm_rows"), round: operator("round") };

/** What the operators call the norms. */
export const normCode = { none: 0, rms: 1, layer: 2, "rms-plus-one": 3 };
const activationCode = { none: 0, silu: 1, gelu: 2, "gelu-tanh": 3, relu: 4 };

/** "rms-plus-one" multiplies with weight + 1: Gemma stores what its weights differ from 1 by. */
export type NormKind = "rms" | "layer" | "rms-plus-one";

/** A norm over the last dimension and its weights. */
export interface Norm {
  kind: NormKind;
  weight: Tensor | undefined;
  bias: Tensor | undefined;
  eps: number;
}

/** What surrounds a product in a layer. */
export interface ProductExtras {
  /** Applied to the input first. */
  norm?: Norm | undefined;
  activation?: Activation;
  /** The matrix holds [gate; up]: the result is activation(gate) * up. */
  gated?: boolean;
  /** Added to the result. */
  residual?: Tensor | undefined;
}

/**
 * residual + activation(norm(x) @ matrix^T + bias): x [rows, in] -> [rows, out], the matrix [out, in] and its bias taken from a
 * block by name.
 */
export type LayerProduct = (x: Tensor, block: ParameterBlock, matrix: string, extras?: ProductExtras) => Tensor;

/**
 * x normalised over the last dimension, in float32 inside: (x - mean) / sqrt(variance + eps) * weight + bias (arXiv:1607.06450, eq. 4), or
 * x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467, eq. 4), or times (weight + 1).
 */
export function normalize(x: Tensor, { kind, weight, bias, eps }: Norm): Tensor {
  return new Tensor(op.normRows(x.handle, normCode[kind], weight?.handle ?? null, bias?.handle ?? null, eps));
}

/** x @ weight^T + bias, [rows, in], [out, in] and [out] -> [rows, out], as `LayerProduct` computes it. */
export function multiply(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return new Tensor(op.layerProduct(x.handle, weight.handle, bias?.handle ?? null));
}

/** A matrix [out, in] in int8 with a factor for each row: value = int8 * scale. */
export interface Int8Matrix {
  /** [out, in] int8 */
  values: Tensor;
  /** [out] float32 */
  scales: Tensor;
}

/** Elements that are in float32 at a time, 4 MiB, while a matrix is rounded. */
const QUANTIZED_AT_ONCE = 2 ** 20;

/** Symmetric rounding row by row: the largest element of a row becomes 127 or -127. */
export function quantizeRows(weight: Tensor): Int8Matrix {
  const [rows, width] = weight.shape as [number, number];
  const values = empty([rows, width], "int8"), scales = empty([rows], "float32");
  const least = empty([1], "float32").fill_(1e-30); // a row of zeros keeps a scale that can be divided by
  const part = Math.max(1, Math.floor(QUANTIZED_AT_ONCE / width));
  for (let from = 0; from < rows; from += part) {
    const to = Math.min(from + part, rows);
    tidy(() => {
      const wide = weight.detach().slice(0, from, to).to("float32");
      const scale = wide.abs().amax(1).div(127).maximum(least);
      scales.slice(0, from, to).copy_(scale);
      values.slice(0, from, to).copy_(new Tensor(op.round(wide.div(scale.unsqueeze(1)).handle)).to("int8"));
    });
  }
  return { values, scales };
}

/**
 * The product in one operator, with gradient. It streams the weight once, as it lies, sums in float32 in an order that does not depend
 * on the other rows, and rounds where separate operators would: a token has the same bits in training, prefill and decoding.
 */
export const layerProduct: LayerProduct = (x, block, matrix, extras) => fused(x, block, matrix, block.leaf(matrix), undefined, extras);

/** `layerProduct` with matrices in int8, without gradient; `find` gives undefined for those that stay as they are. */
export function int8Product(find: (block: ParameterBlock, matrix: string) => Int8Matrix | undefined): LayerProduct {
  return (x, block, matrix, extras) => {
    const { values, scales } = find(block, matrix) ?? { values: block.leaf(matrix), scales: undefined };
    return fused(x, block, matrix, values, scales, extras);
  };
}

function fused(
  x: Tensor, block: ParameterBlock, matrix: string, weight: Tensor, scales: Tensor | undefined,
  { norm, activation, gated = false, residual }: ProductExtras = {},
): Tensor {
  const lora = block.lora?.of(matrix); // the weight holds the adapters already; they are named for their gradients
  return new Tensor(op.layerProduct(
    x.handle, weight.handle, block.find(`${matrix}Bias`)?.handle ?? null, normCode[norm?.kind ?? "none"], norm?.weight?.handle ?? null,
    norm?.bias?.handle ?? null, norm?.eps ?? 0, activationCode[activation ?? "none"], gated, residual?.handle ?? null,
    scales?.handle ?? null, lora?.a.handle, lora?.b.handle, lora?.rows, lora?.scale,
  ));
}
