import { binding, type DType, type TypedArray } from "../native/binding.ts";
import { operator } from "./operator.ts";
import { Tensor } from "./tensor.ts";

const op = {
  full: operator("full"), empty: operator("empty", "memory_format"), arange: operator("arange", "start"),
  randn: operator("randn", "generator"), rand: operator("rand", "generator"), randint: operator("randint", "low_generator"),
  cat: operator("cat"), stack: operator("stack"), fromFile: operator("from_file"),
};

/** Nested arrays of numbers or booleans. */
export type NestedValues = number | boolean | readonly NestedValues[];

/**
 * A tensor from nested arrays of equal lengths: `tensor([[1, 2], [3, 4]])` is [2, 2] float32. Booleans give bool,
 * numbers float32, unless `dtype` says otherwise.
 *
 * @throws {TypeError} when rows differ in length or an element is neither number nor boolean
 */
export function tensor(values: NestedValues, options: { dtype?: DType } = {}): Tensor {
  const shape: number[] = [];
  for (let at: NestedValues | undefined = values; Array.isArray(at); at = at[0]) shape.push(at.length);
  const flat: number[] = [];
  let booleans = 0;
  const visit = (value: NestedValues, depth: number): void => {
    if (Array.isArray(value)) {
      if (value.length !== shape[depth]) {
        const beside = shape[depth] ?? "a number";
        throw new TypeError(`tensor(): rows differ in length: ${value.length} beside ${beside} in dimension ${depth}`);
      }
      for (const inner of value) visit(inner, depth + 1);
    } else if (depth !== shape.length || (typeof value !== "number" && typeof value !== "boolean")) {
      throw new TypeError(`tensor(): expected nested arrays of numbers or booleans, got ${typeof value} at depth ${depth}`);
    } else {
      if (typeof value === "boolean") booleans++;
      flat.push(Number(value));
    }
  };
  visit(values, 0);
  const dtype = options.dtype ?? (booleans > 0 && booleans === flat.length ? "bool" : "float32");
  return fromNumbers(flat, shape, dtype);
}

/** A tensor of `shape` from numbers in row-major order. */
export function fromNumbers(numbers: readonly number[], shape: readonly number[], dtype: DType): Tensor {
  if (dtype === "int64") return fromData(BigInt64Array.from(numbers, BigInt), shape, dtype);
  if (dtype === "bool") return fromData(Uint8Array.from(numbers, (x) => (x === 0 ? 0 : 1)), shape, dtype);
  if (dtype === "float64" || dtype === "int32" || dtype === "int16" || dtype === "int8" || dtype === "uint8") {
    return fromData(Float64Array.from(numbers), shape, dtype);
  }
  return fromData(Float32Array.from(numbers), shape, dtype);
}

/** int64 [n] from whole numbers, for indices and tokens. */
export function indices(numbers: readonly number[]): Tensor {
  return fromNumbers(numbers, [numbers.length], "int64");
}

/** A tensor of `shape` from typed data in row-major order, converted to `dtype`; one copy. A Uint16Array is raw bfloat16 or float16. */
export function fromData(data: TypedArray | Uint16Array, shape: readonly number[], dtype: DType): Tensor {
  return new Tensor(binding.fromData(data, shape, dtype));
}

/** `value` everywhere. */
export function full(shape: readonly number[], value: number, dtype: DType = "float32"): Tensor {
  return new Tensor(op.full(shape, value, dtype));
}
/** 0 everywhere. */
export function zeros(shape: readonly number[], dtype: DType = "float32"): Tensor { return full(shape, 0, dtype); }
/** 1 everywhere. */
export function ones(shape: readonly number[], dtype: DType = "float32"): Tensor { return full(shape, 1, dtype); }
/** Memory of `shape` with undefined content. */
export function empty(shape: readonly number[], dtype: DType = "float32"): Tensor { return new Tensor(op.empty(shape, dtype)); }
/** start, start + 1, .. end - 1. */
export function arange(start: number, end: number, dtype: DType = "int64"): Tensor { return new Tensor(op.arange(start, end, dtype)); }

/** One stream of random numbers with its own seed and state. */
export class Generator {
  readonly handle;
  constructor(seed: number) { this.handle = binding.createGenerator(seed); }
  /** The whole state, uint8 [bytes]. */
  get state(): Tensor { return new Tensor(binding.generatorState(this.handle)); }
  set state(state: Tensor) { binding.setGeneratorState(this.handle, state.handle); }
}

/** Standard normal numbers. */
export function randn(shape: readonly number[], generator: Generator, dtype: DType = "float32"): Tensor {
  return new Tensor(op.randn(shape, generator.handle, dtype));
}
/** Uniform numbers in [0, 1). */
export function rand(shape: readonly number[], generator: Generator, dtype: DType = "float32"): Tensor {
  return new Tensor(op.rand(shape, generator.handle, dtype));
}
/** Whole numbers in [low, high), int64. */
export function randint(low: number, high: number, shape: readonly number[], generator: Generator): Tensor {
  return new Tensor(op.randint(low, high, shape, generator.handle, "int64"));
}

/** Joins tensors along an existing dimension. */
export function cat(tensors: readonly Tensor[], dim = 0): Tensor { return new Tensor(op.cat(tensors.map((t) => t.handle), dim)); }
/** Joins tensors of one shape along a new dimension. */
export function stack(tensors: readonly Tensor[], dim = 0): Tensor { return new Tensor(op.stack(tensors.map((t) => t.handle), dim)); }

/** The file's first `bytes` bytes, memory-mapped: nothing is read until it is used. uint8 [bytes]; it must not be written to. */
export function mapFile(path: string, bytes: number): Tensor {
  return new Tensor(op.fromFile(path, false, bytes, "uint8"));
}
