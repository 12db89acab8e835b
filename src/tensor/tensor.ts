import { binding, type DType, type TensorHandle, type TypedArray } from "../native/binding.ts";
import { explain, type Operator, operator } from "./operator.ts";
import { track } from "./tidy.ts";

/** Nested arrays of numbers, as deep as the tensor has dimensions. */
export type Nested = number | Nested[];

// One line per operator in use, by libtorch's own names.
const op = {
  split: operator<TensorHandle[]>("split_with_sizes"),
  add: operator("add", "Tensor"), addScalar: operator("add", "Scalar"), addInPlace: operator("add_", "Tensor"),
  sub: operator("sub", "Tensor"), subScalar: operator("sub", "Scalar"),
  mul: operator("mul", "Tensor"), mulScalar: operator("mul", "Scalar"), mulInPlace: operator("mul_", "Scalar"),
  div: operator("div", "Tensor"), divScalar: operator("div", "Scalar"),
  neg: operator("neg"), abs: operator("abs"), exp: operator("exp"), log: operator("log"), sqrt: operator("sqrt"), rsqrt: operator("rsqrt"),
  pow: operator("pow", "Tensor_Scalar"), sigmoid: operator("sigmoid"), logSigmoid: operator("log_sigmoid"),
  cos: operator("cos"), sin: operator("sin"),
  maximum: operator("maximum"), minimum: operator("minimum"), clamp: operator("clamp"),
  where: operator("where", "self"), whereScalar: operator("where", "ScalarOther"),
  eq: operator("eq", "Tensor"), eqScalar: operator("eq", "Scalar"), ne: operator("ne", "Tensor"), neScalar: operator("ne", "Scalar"),
  gt: operator("gt", "Tensor"), gtScalar: operator("gt", "Scalar"), lt: operator("lt", "Tensor"), ltScalar: operator("lt", "Scalar"),
  logicalNot: operator("logical_not"), logicalAnd: operator("logical_and"),
  sum: operator("sum"), sumDims: operator("sum", "dim_IntList"), mean: operator("mean"), meanDims: operator("mean", "dim"),
  max: operator("max"), min: operator("min"), amax: operator("amax"), argmax: operator("argmax"), cumsum: operator("cumsum"),
  isfinite: operator("isfinite"), all: operator("all"), norm: operator("linalg_vector_norm"),
  softmax: operator("softmax", "int"), logSoftmax: operator("log_softmax", "int"), logsumexp: operator("logsumexp"),
  reshape: operator("reshape"), transpose: operator("transpose", "int"), permute: operator("permute"),
  slice: operator("slice", "Tensor"), select: operator("select", "int"),
  unsqueeze: operator("unsqueeze"), squeeze: operator("squeeze", "dim"),
  expand: operator("expand"), flip: operator("flip"), indexSelect: operator("index_select"), gather: operator("gather"),
  indexCopyInPlace: operator("index_copy_"), indexAddInPlace: operator("index_add_"), scatterAddInPlace: operator("scatter_add_"),
  matmul: operator("matmul"), addmmInPlace: operator("addmm_"),
  to: operator("to", "dtype"), toDevice: operator("to", "device"), viewDtype: operator("view", "dtype"),
  contiguous: operator("contiguous"), detach: operator("detach"), clone: operator("clone"),
  copyInPlace: operator("copy_"), zeroInPlace: operator("zero_"), fillInPlace: operator("fill_", "Scalar"),
};

/** Something a tensor can be combined with elementwise: a tensor that broadcasts against it, or a number. */
export type Operand = Tensor | number;

/** An elementwise operator, by its overload for tensors or that for numbers. */
function combine(x: Tensor, other: Operand, withTensor: Operator<TensorHandle>, withNumber: Operator<TensorHandle>): Tensor {
  return new Tensor(typeof other === "number" ? withNumber(x.handle, other) : withTensor(x.handle, other.handle));
}

/**
 * A tensor of libtorch. Immutable but for the methods that end in an underscore. Memory is freed by the garbage
 * collector, also inside a synchronous loop. Every method throws NativeError when libtorch refuses it.
 */
export class Tensor {
  /** The addon's handle, for those who call operators. */
  readonly handle: TensorHandle;
  #shape: readonly number[] | undefined;
  #dtype: DType | undefined;

  constructor(handle: TensorHandle) {
    this.handle = handle;
    track(this);
  }

  /** Sizes of the dimensions; `[]` for a scalar. */
  get shape(): readonly number[] {
    this.#shape ??= binding.shapeOf(this.handle);
    return this.#shape;
  }
  get dtype(): DType {
    this.#dtype ??= binding.dtypeOf(this.handle);
    return this.#dtype;
  }
  /** "cpu" or "cuda:0". */
  get device(): string { return binding.deviceOf(this.handle); }
  /** Number of elements. */
  get size(): number { return this.shape.reduce((product, size) => product * size, 1); }

  // ---- elementwise ----
  add(other: Operand): Tensor { return combine(this, other, op.add, op.addScalar); }
  sub(other: Operand): Tensor { return combine(this, other, op.sub, op.subScalar); }
  mul(other: Operand): Tensor { return combine(this, other, op.mul, op.mulScalar); }
  /** True division, also of integers. */
  div(other: Operand): Tensor { return combine(this, other, op.div, op.divScalar); }
  neg(): Tensor { return new Tensor(op.neg(this.handle)); }
  abs(): Tensor { return new Tensor(op.abs(this.handle)); }
  exp(): Tensor { return new Tensor(op.exp(this.handle)); }
  log(): Tensor { return new Tensor(op.log(this.handle)); }
  sqrt(): Tensor { return new Tensor(op.sqrt(this.handle)); }
  rsqrt(): Tensor { return new Tensor(op.rsqrt(this.handle)); }
  pow(exponent: number): Tensor { return new Tensor(op.pow(this.handle, exponent)); }
  cos(): Tensor { return new Tensor(op.cos(this.handle)); }
  sin(): Tensor { return new Tensor(op.sin(this.handle)); }
  sigmoid(): Tensor { return new Tensor(op.sigmoid(this.handle)); }
  /** log(sigmoid(x)) without overflow. */
  logSigmoid(): Tensor { return new Tensor(op.logSigmoid(this.handle)); }
  maximum(other: Tensor): Tensor { return new Tensor(op.maximum(this.handle, other.handle)); }
  minimum(other: Tensor): Tensor { return new Tensor(op.minimum(this.handle, other.handle)); }
  /** Elementwise clamp to `[min, max]`; a bound left out is open. */
  clamp(min?: number, max?: number): Tensor { return new Tensor(op.clamp(this.handle, min ?? null, max ?? null)); }
  /** This where `mask` is true, `otherwise` elsewhere. A NaN under a false mask is left out. */
  where(mask: Tensor, otherwise: Operand): Tensor {
    if (typeof otherwise === "number") return new Tensor(op.whereScalar(mask.handle, this.handle, otherwise));
    return new Tensor(op.where(mask.handle, this.handle, otherwise.handle));
  }

  // ---- comparisons: bool tensors ----
  equal(other: Operand): Tensor { return combine(this, other, op.eq, op.eqScalar); }
  notEqual(other: Operand): Tensor { return combine(this, other, op.ne, op.neScalar); }
  greater(other: Operand): Tensor { return combine(this, other, op.gt, op.gtScalar); }
  less(other: Operand): Tensor { return combine(this, other, op.lt, op.ltScalar); }
  logicalNot(): Tensor { return new Tensor(op.logicalNot(this.handle)); }
  logicalAnd(other: Tensor): Tensor { return new Tensor(op.logicalAnd(this.handle, other.handle)); }
  isFinite(): Tensor { return new Tensor(op.isfinite(this.handle)); }

  // ---- reductions ----
  /** Sum over `dims`, or over everything. Sums of bool and integers are int64. */
  sum(dims?: readonly number[], keepDim = false): Tensor {
    return new Tensor(dims ? op.sumDims(this.handle, dims, keepDim) : op.sum(this.handle));
  }
  mean(dims?: readonly number[], keepDim = false): Tensor {
    return new Tensor(dims ? op.meanDims(this.handle, dims, keepDim) : op.mean(this.handle));
  }
  /** Sum over the places where `mask` is true. A NaN under a false mask is left out, which `this.mul(mask).sum()` would not do. */
  maskedSum(mask: Tensor): Tensor { return this.where(mask, 0).sum(); }
  max(): Tensor { return new Tensor(op.max(this.handle)); }
  min(): Tensor { return new Tensor(op.min(this.handle)); }
  /** Largest value along `dim`. */
  amax(dim: number, keepDim = false): Tensor { return new Tensor(op.amax(this.handle, [dim], keepDim)); }
  /** Index of the first largest value along `dim`, int64. */
  argmax(dim: number): Tensor { return new Tensor(op.argmax(this.handle, dim)); }
  cumsum(dim: number): Tensor { return new Tensor(op.cumsum(this.handle, dim)); }
  /** Whether every element is true (or not zero). */
  all(): Tensor { return new Tensor(op.all(this.handle)); }
  /** Euclidean norm along `dim`, else of all elements; float32: a bfloat16 tensor is summed in float32. */
  norm(dim?: number): Tensor {
    return new Tensor(op.norm(this.handle, 2, dim === undefined ? null : [dim], false, this.dtype === "float64" ? "float64" : "float32"));
  }
  /** Softmax along `dim`, computed in float32 unless the tensor is float64. */
  softmax(dim: number): Tensor { return new Tensor(op.softmax(this.handle, dim, this.dtype === "float64" ? null : "float32")); }
  /** log(softmax) along `dim`, computed in float32 unless the tensor is float64. */
  logSoftmax(dim: number): Tensor { return new Tensor(op.logSoftmax(this.handle, dim, this.dtype === "float64" ? null : "float32")); }
  logSumExp(dim: number): Tensor { return new Tensor(op.logsumexp(this.handle, [dim])); }

  // ---- shape ----
  /** The same elements in another shape; a view where possible. One size may be -1. */
  reshape(shape: readonly number[]): Tensor { return new Tensor(op.reshape(this.handle, shape)); }
  transpose(a: number, b: number): Tensor { return new Tensor(op.transpose(this.handle, a, b)); }
  permute(dims: readonly number[]): Tensor { return new Tensor(op.permute(this.handle, dims)); }
  /** View of `[start, end)` along `dim`; a negative bound counts from the end, as in JavaScript's slice. */
  slice(dim: number, start: number, end?: number): Tensor { return new Tensor(op.slice(this.handle, dim, start, end ?? null)); }
  /** Views of consecutive pieces of `dim`. Going backward they are joined in one piece, where slices would add up as many full tensors. */
  split(sizes: readonly number[], dim: number): Tensor[] { return op.split(this.handle, sizes, dim).map((handle) => new Tensor(handle)); }
  /** View of one index along `dim`, which is dropped. */
  select(dim: number, index: number): Tensor { return new Tensor(op.select(this.handle, dim, index)); }
  unsqueeze(dim: number): Tensor { return new Tensor(op.unsqueeze(this.handle, dim)); }
  squeeze(dim: number): Tensor { return new Tensor(op.squeeze(this.handle, dim)); }
  expand(shape: readonly number[]): Tensor { return new Tensor(op.expand(this.handle, shape)); }
  flip(dim: number): Tensor { return new Tensor(op.flip(this.handle, [dim])); }
  /** The slices of `dim` named by `index` (int64, one dimension), in that order. */
  indexSelect(dim: number, index: Tensor): Tensor { return new Tensor(op.indexSelect(this.handle, dim, index.handle)); }
  /** Elements picked along `dim` by an int64 index of the same rank. */
  gather(dim: number, index: Tensor): Tensor { return new Tensor(op.gather(this.handle, dim, index.handle)); }
  matmul(other: Tensor): Tensor { return new Tensor(op.matmul(this.handle, other.handle)); }

  // ---- dtype, place, memory ----
  /** In another dtype; itself where it has that dtype already. */
  to(dtype: DType): Tensor { return dtype === this.dtype ? this : new Tensor(op.to(this.handle, dtype)); }
  toDevice(device: string): Tensor { return new Tensor(op.toDevice(this.handle, device, this.dtype)); }
  /** The same bytes read as another dtype; the last dimension changes with the element size. */
  viewAs(dtype: DType): Tensor { return new Tensor(op.viewDtype(this.handle, dtype)); }
  contiguous(): Tensor { return new Tensor(op.contiguous(this.handle)); }
  clone(): Tensor { return new Tensor(op.clone(this.handle)); }
  /** The same memory outside the graph. */
  detach(): Tensor { return new Tensor(op.detach(this.handle)); }
  /** Frees the memory now; any later use throws. Only where a peak matters. */
  dispose(): void { binding.freeTensor(this.handle); }

  // ---- in place ----
  /** this += scale * other. */
  add_(other: Tensor, scale = 1): this { op.addInPlace(this.handle, other.handle, scale); return this; }
  mul_(factor: number): this { op.mulInPlace(this.handle, factor); return this; }
  copy_(source: Tensor): this { op.copyInPlace(this.handle, source.handle); return this; }
  zero_(): this { op.zeroInPlace(this.handle); return this; }
  fill_(value: number): this { op.fillInPlace(this.handle, value); return this; }
  /** this[index] = source along `dim`. */
  indexCopy_(dim: number, index: Tensor, source: Tensor): this {
    op.indexCopyInPlace(this.handle, dim, index.handle, source.handle);
    return this;
  }
  /** this[index] += source along `dim`. */
  indexAdd_(dim: number, index: Tensor, source: Tensor): this {
    op.indexAddInPlace(this.handle, dim, index.handle, source.handle);
    return this;
  }
  /** this[.., index, ..] += source along `dim`. */
  scatterAdd_(dim: number, index: Tensor, source: Tensor): this {
    op.scatterAddInPlace(this.handle, dim, index.handle, source.handle);
    return this;
  }
  /** this += a @ b. */
  addmm_(a: Tensor, b: Tensor): this { op.addmmInPlace(this.handle, a.handle, b.handle); return this; }

  // ---- gradients ----
  get requiresGrad(): boolean { return binding.requiresGrad(this.handle); }
  /** Makes this a leaf of the graph (or no longer one). */
  requiresGrad_(required = true): this { binding.setRequiresGrad(this.handle, required); return this; }
  /** The gradient that backwards have added up, or undefined. */
  get grad(): Tensor | undefined {
    const handle = binding.gradOf(this.handle);
    return handle ? new Tensor(handle) : undefined;
  }
  /** Makes later backwards accumulate in place into `gradient`; it may be float32 where this is bfloat16. */
  setGrad(gradient: Tensor | undefined): void { binding.setGrad(this.handle, gradient?.handle ?? null); }
  /** Adds the gradient of this scalar (or of sum(this * gradient)) to the leaves' `grad`. */
  backward(gradient?: Tensor): void {
    try {
      binding.backward([this.handle], [gradient?.handle ?? null]);
    } catch (cause) {
      throw explain(`backward(${this.dtype}[${this.shape.join(", ")}])`, cause);
    }
  }

  // ---- out ----
  /** The only element as a number. */
  item(): number { return binding.itemOf(this.handle); }
  /** A copy of the elements in row-major order; bfloat16 and float16 as float32, bool as 0 and 1. */
  data(): TypedArray { return binding.toData(this.handle); }
  /** A copy of the elements' bytes in row-major order and their own dtype. */
  bytes(): Uint8Array { return binding.toBytes(this.handle); }
  /** The elements as plain numbers in row-major order. */
  numbers(): number[] { return Array.from(this.data() as ArrayLike<number | bigint>, Number); }
  /** Nested arrays of numbers; a plain number for a scalar; bool as 0 and 1. */
  toArray(): Nested {
    const numbers = this.numbers();
    const nest = (dim: number, from: number, count: number): Nested => {
      const size = this.shape[dim];
      if (size === undefined) return numbers[from] ?? Number.NaN;
      const stride = size === 0 ? 0 : count / size;
      return Array.from({ length: size }, (_, i) => nest(dim + 1, from + i * stride, stride));
    };
    return nest(0, 0, numbers.length);
  }
  /** For messages: `float32[4, 128]`. */
  toString(): string { return `${this.dtype}[${this.shape.join(", ")}]`; }
}
