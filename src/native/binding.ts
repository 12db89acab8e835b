import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { ConfigError } from "../errors.ts";

declare const tensorBrand: unique symbol;
declare const generatorBrand: unique symbol;
declare const opBrand: unique symbol;

/** A tensor of libtorch, owned by the JavaScript value: it is freed when the value is collected, also inside a synchronous loop. */
export type TensorHandle = { readonly [tensorBrand]: true };
/** The state of one stream of random numbers. */
export type GeneratorHandle = { readonly [generatorBrand]: true };
/** One registered operator; valid in every thread of the process. */
export type OpHandle = number & { readonly [opBrand]: true };

/** Element types that tensors may have. */
export type DType = "float32" | "bfloat16" | "int64" | "bool" | "float64" | "float16" | "int32" | "int16" | "int8" | "uint8";

/** What `toData` gives. */
export type TypedArray = Float32Array | Float64Array | BigInt64Array | Int32Array | Int16Array | Int8Array | Uint8Array;

/** One argument of an operator: dtypes and devices by name, `null` is None, `undefined` takes the schema's default. */
export type NativeArgument =
  | TensorHandle
  | GeneratorHandle
  | number
  | bigint
  | boolean
  | string
  | null
  | undefined
  | readonly (TensorHandle | number | boolean | null)[];

/** One result of an operator, or an array when its schema has several. */
export type NativeResult = TensorHandle | number | boolean | string | null | undefined | NativeResult[];

/**
 * The whole contract with the addon. Arguments are positional and already valid; a wrong kind throws a TypeError with
 * code E_ARGUMENT, a refusal of libtorch an Error with code E_NATIVE or E_MEMORY and without C++ trace.
 */
export interface Binding {
  /** Looks an operator up ("aten::add", "Tensor"). Throws when libtorch has none of that name. */
  findOp(name: string, overload: string): OpHandle;
  /** Calls through the dispatcher, with gradients where grad mode is on. */
  callOp(op: OpHandle, ...args: NativeArgument[]): NativeResult;
  /** The operator's schema as text. */
  schemaOf(op: OpHandle): string;
  /** Number of registered operators. */
  countOps(): number;

  /** A new tensor from the elements of `data` in row-major order (one copy). A Uint16Array holds raw bfloat16 or float16 bits. */
  fromData(data: TypedArray | Uint16Array, shape: readonly number[], dtype: DType): TensorHandle;
  /** A copy of the elements in row-major order; bfloat16 and float16 come as float32, bool as bytes of 0 and 1. */
  toData(tensor: TensorHandle): TypedArray;
  /** A copy of the elements' bytes in row-major order and their own dtype. */
  toBytes(tensor: TensorHandle): Uint8Array;
  shapeOf(tensor: TensorHandle): number[];
  dtypeOf(tensor: TensorHandle): DType;
  /** "cpu" or "cuda:0". */
  deviceOf(tensor: TensorHandle): string;
  /** The only element as a number; throws for any other count. */
  itemOf(tensor: TensorHandle): number;
  /** Address of the first element. */
  addressOf(tensor: TensorHandle): number;
  /** Drops the tensor at once; any later use of the handle throws, a second free does nothing. */
  freeTensor(tensor: TensorHandle): void;
  /** Handles not yet collected, and the bytes reported for them, in all threads of the process. */
  tensorMemory(): { liveTensors: number; liveBytes: number };

  /** Runs backward from `tensors`; a null gradient means 1 for a scalar. Gradients add up in the leaves. */
  backward(tensors: readonly TensorHandle[], gradients: readonly (TensorHandle | null)[]): void;
  /** The leaf's gradient or null. */
  gradOf(leaf: TensorHandle): TensorHandle | null;
  /** Later backwards accumulate in place into exactly `gradient` (float32 is allowed under a bfloat16 leaf); null drops it. */
  setGrad(leaf: TensorHandle, gradient: TensorHandle | null): void;
  setRequiresGrad(leaf: TensorHandle, requiresGrad: boolean): void;
  requiresGrad(tensor: TensorHandle): boolean;
  /** Sets this thread's grad mode and returns the former one. */
  setGradEnabled(enabled: boolean): boolean;
  /**
   * Joins `outputs` to the graph as if one function had made them from `inputs`. `backward` is called once, on this
   * thread, with a gradient (or null) per output and returns one (or null) per input; it is dropped after the first backward.
   */
  segment(
    inputs: readonly TensorHandle[],
    outputs: readonly TensorHandle[],
    backward: (gradients: (TensorHandle | null)[]) => (TensorHandle | null)[],
  ): TensorHandle[];

  createGenerator(seed: number): GeneratorHandle;
  /** Reseeds the default generators. */
  manualSeed(seed: number): void;
  /** The whole state of a generator (null: the default one) as a uint8 tensor. */
  generatorState(generator: GeneratorHandle | null): TensorHandle;
  setGeneratorState(generator: GeneratorHandle | null, state: TensorHandle): void;

  /** Threads that operators called from this thread may use. */
  setNumThreads(threads: number): void;
  numThreads(): number;
  torchVersion(): string;
  /** Whether bfloat16 products run in hardware on this processor. */
  hasFastBfloat16(): boolean;
  /** Name of the instruction set that our own kernels use. */
  kernelSet(): string;
  /** Those that this processor has, the best first. */
  kernelSets(): string[];
  /** Chooses one of them, in place of the best or of what TSCHAT_KERNELS says. */
  useKernels(name: string): void;
  /** From now on SIGINT and SIGTERM only set the flag that `stopSignal` reads; the second one ends the process at once. */
  catchStopSignals(): void;
  /** Number of the signal that asked the process to stop, or 0. */
  stopSignal(): number;
  /** Ends this process when its parent ends (Linux). */
  dieWithParent(): void;
  /** Gives memory that is free inside the C heap back to the system (glibc). */
  trimHeap(): void;
}

/** Every name of the contract, for the test that compares it with the addon's exports in both directions. */
export const bindingNames = [
  "findOp", "callOp", "schemaOf", "countOps",
  "fromData", "toData", "toBytes", "shapeOf", "dtypeOf", "deviceOf", "itemOf", "addressOf", "freeTensor", "tensorMemory",
  "backward", "gradOf", "setGrad", "setRequiresGrad", "requiresGrad", "setGradEnabled", "segment",
  "createGenerator", "manualSeed", "generatorState", "setGeneratorState",
  "setNumThreads", "numThreads", "torchVersion", "hasFastBfloat16", "kernelSet", "kernelSets", "useKernels",
  "catchStopSignals", "stopSignal", "dieWithParent", "trimHeap",
] as const satisfies readonly (keyof Binding)[];

// A name that the interface has and the list lacks makes this type `never`-free and the assignment an error.
type Missing = Exclude<keyof Binding, (typeof bindingNames)[number]>;
const noneMissing: Missing extends never ? true : Missing = true;
void noneMissing;

/** The libtorch that the addon was compiled for; its C++ interface changes with the minor version. */
export const torchMinor = "2.15";

function loadBinding(): Binding {
  // src/native and dist/native lie equally deep.
  const folder = fileURLToPath(new URL("../../build/native", import.meta.url));
  const addon = join(folder, `tschat-torch${torchMinor}.node`);
  const located = join(folder, "libtorch.json");
  if (!existsSync(addon) || !existsSync(located)) {
    throw new ConfigError(`the native addon is not built: looked for ${addon}; run "npm run build" in the project's folder`);
  }
  // libgomp reads this when it is loaded. By default its threads spin at every barrier; when another process has one of the cores,
  // the spinning keeps the missing thread from running and a training step takes 30 times as long (measured: 57 s for 2 s).
  if (process.env["OMP_WAIT_POLICY"] === undefined) process.env["GOMP_SPINCOUNT"] ??= "1000";
  const { folder: libtorch } = JSON.parse(readFileSync(located, "utf8")) as { folder: string };
  const require = createRequire(import.meta.url);
  // libtorch is loaded first and globally, from wherever it lies, so the addon needs no rpath.
  (require(join(folder, "tschat-loader.node")) as { load(folder: string): void }).load(join(libtorch, "lib"));
  const loaded = require(addon) as Binding;
  const wanted = process.env["TSCHAT_KERNELS"];
  if (wanted && !loaded.kernelSets().includes(wanted)) {
    throw new ConfigError(`TSCHAT_KERNELS: expected one of ${loaded.kernelSets().join(", ")}, which this processor has, got "${wanted}"`);
  }
  return loaded;
}

/** The addon. Only `src/tensor` and the rank's start-up use it; everything above works with `Tensor`. */
export const binding: Binding = loadBinding();
