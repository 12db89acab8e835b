import type { Activation } from "../../src/nn/functional.ts";
import { fromData, Generator, rand } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { activate } from "../nn/plain-operators.ts";
import { type FloatType, guarded, random, rounding } from "./numbers.ts";

const layerProduct = operator("tschat::layer_product");

export const activations = ["none", "silu", "gelu", "gelu-tanh", "relu"] as const;
export const norms = ["none", "rms", "layer"] as const;

/** The arguments of tschat::layer_product. */
export interface Product {
  x: Tensor;
  weight: Tensor;
  bias?: Tensor | undefined;
  norm?: (typeof norms)[number];
  normWeight?: Tensor | undefined;
  normBias?: Tensor | undefined;
  activation?: (typeof activations)[number];
  gated?: boolean;
  residual?: Tensor | undefined;
  scales?: Tensor | undefined;
}

const eps = 1e-3; // large enough that leaving it out shows

/** What the operator gives. */
export function multiply(product: Product): Tensor {
  const { x, weight, bias, norm = "none", normWeight, normBias, activation = "none", gated = false, residual, scales } = product;
  return new Tensor(layerProduct(
    x.handle, weight.handle, bias?.handle ?? null, norms.indexOf(norm), normWeight?.handle ?? null, normBias?.handle ?? null, eps,
    activations.indexOf(activation), gated, residual?.handle ?? null, scales?.handle ?? null,
  ));
}

/** What to draw: sizes, type and which of the extras. */
export interface Wanted {
  rows: number;
  width: number;
  outputs: number;
  dtype: FloatType;
  norm?: (typeof norms)[number];
  /** How many of the norm's two vectors there are. */
  normVectors?: number;
  activation?: (typeof activations)[number];
  gated?: boolean;
  bias?: boolean;
  residual?: boolean;
  int8?: boolean;
  seed?: number;
}

/** Random operands, each lying between NaNs. The products are of the size of 1. */
export function draw(wanted: Wanted): Product {
  const { rows, width, outputs, dtype, norm = "none", normVectors = 0, activation = "none", gated = false, seed = 1 } = wanted;
  const total = gated ? 2 * outputs : outputs;
  const vector = (size: number, offset: number) => guarded(random([size], seed + offset, dtype));
  const small = width ** -0.5;
  // -127 to 127 is what a quantiser uses; their standard deviation is 73.
  const whole = () => rand([total, width], new Generator(seed + 1)).mul(254).sub(127).to("int8");
  return {
    x: guarded(random([rows, width], seed, dtype)), weight: guarded(wanted.int8 ? whole() : random([total, width], seed + 1, dtype, small)),
    norm, activation, gated,
    bias: wanted.bias ? vector(total, 2) : undefined,
    normWeight: normVectors > 0 ? vector(width, 3) : undefined, normBias: normVectors > 1 ? vector(width, 4) : undefined,
    residual: wanted.residual ? guarded(random([rows, outputs], seed + 5, dtype)) : undefined,
    scales: wanted.int8 ? guarded(rand([total], new Generator(seed + 6)).mul(small / 50).add(small / 100)) : undefined,
  };
}

/** One row normalised. */
function normalised(row: Float64Array, { norm, normWeight, normBias }: Record<"normWeight" | "normBias", Numbers> & { norm: string }) {
  const mean = norm === "layer" ? row.reduce((sum, value) => sum + value, 0) / row.length : 0;
  const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / row.length;
  return row.map((value, k) => ((value - mean) / Math.sqrt(variance + eps)) * (normWeight?.[k] ?? 1) + (normBias?.[k] ?? 0));
}

type Numbers = ArrayLike<number> | undefined;
const numbersOf = (x: Tensor | undefined): Numbers => x?.data() as Numbers;

/** libtorch's activation in float64. */
function activated(values: Float64Array, activation: Activation): Float64Array {
  return activate(fromData(values, [values.length], "float64"), activation).data() as Float64Array;
}

/** The same in float64, rounded where operators with gradients have a tensor: norm, product with bias, activation, times up, residual. */
export function reference(product: Product): Float64Array {
  const { x, weight, activation = "none", gated = false, norm = "none" } = product;
  const [rows, width] = x.shape as [number, number], total = weight.shape[0] ?? 0, round = rounding(x.dtype);
  const [bias, scales, residual] = [numbersOf(product.bias), numbersOf(product.scales), numbersOf(product.residual)];
  const vectors = { norm, normWeight: numbersOf(product.normWeight), normBias: numbersOf(product.normBias) };
  const inputs = Float64Array.from(x.data() as Float32Array), weights = Float64Array.from(weight.data() as Float32Array);
  const products = new Float64Array(rows * total);
  for (let r = 0; r < rows; r++) {
    const plain = inputs.subarray(r * width, (r + 1) * width);
    const row = norm === "none" ? plain : normalised(plain, vectors).map(round);
    for (let o = 0; o < total; o++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += (row[k] as number) * (weights[o * width + k] as number);
      products[r * total + o] = round(sum * (scales?.[o] ?? 1) + (bias?.[o] ?? 0));
    }
  }
  const active = activation === "none" ? products : activated(products, activation).map(round);
  const outputs = gated ? total / 2 : total;
  return new Float64Array(rows * outputs).map((_, i) => {
    const [r, o] = [Math.floor(i / outputs), i % outputs];
    const y = active[r * total + o] as number;
    return round((residual?.[i] ?? 0) + (gated ? round(y * (products[r * total + outputs + o] as number)) : y));
  });
}
