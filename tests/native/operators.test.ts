import { describe, expect, test } from "vitest";
import { binding, type NativeArgument, type NativeResult, type TensorHandle } from "../../src/native/binding.ts";

/** Calls one operator by name. */
function call(name: string, overload: string, ...args: NativeArgument[]): NativeResult {
  return binding.callOp(binding.findOp(`aten::${name}`, overload), ...args);
}
const floats = (...numbers: number[]): TensorHandle => binding.fromData(Float32Array.from(numbers), [numbers.length], "float32");
const longs = (...numbers: number[]): TensorHandle => binding.fromData(BigInt64Array.from(numbers, BigInt), [numbers.length], "int64");
const numbers = (result: NativeResult): number[] =>
  Array.from(binding.toData(result as TensorHandle) as ArrayLike<number | bigint>, Number);
const dtype = (result: NativeResult): string => binding.dtypeOf(result as TensorHandle);

describe("every kind of argument of a boxed call", () => {
  test("a list of tensors, and an int that is left to its default", () => {
    expect(numbers(call("cat", "", [floats(1, 2), floats(3)]))).toEqual([1, 2, 3]); // dim = 0
  });

  test("a list of optional tensors", () => {
    const matrix = call("reshape", "", floats(1, 2, 3, 4, 5, 6), [2, 3]) as TensorHandle;
    expect(numbers(call("index", "Tensor", matrix, [null, longs(2, 0)]))).toEqual([3, 1, 6, 4]);
    expect(numbers(call("index", "Tensor", matrix, [longs(1)]))).toEqual([4, 5, 6]);
  });

  test("a list of ints", () => {
    expect(binding.shapeOf(call("reshape", "", floats(1, 2, 3, 4), [2, -1]) as TensorHandle)).toEqual([2, 2]);
    expect(numbers(call("sum", "dim_IntList", call("reshape", "", floats(1, 2, 3, 4), [2, 2]) as TensorHandle, [0], false))).toEqual([
      4, 6,
    ]);
  });

  test("a list of floats and a list of bools", () => {
    // scale_factors float[]: nearest, factor 2
    const image = call("reshape", "", floats(1, 2), [1, 1, 2]) as TensorHandle;
    expect(numbers(call("upsample_nearest1d", "vec", image, null, [2]))).toEqual([1, 1, 2, 2]);
    // output_mask bool[3] of a convolution's backward: only the bias's gradient, the sum of the output's
    const [input, weight, bias] = call(
      "convolution_backward",
      "",
      image,
      image,
      call("reshape", "", floats(1), [1, 1, 1]) as TensorHandle,
      [1],
      [1],
      [0],
      [1],
      false,
      [0],
      1,
      [false, false, true],
    ) as NativeResult[];
    expect([input, weight]).toEqual([null, null]);
    expect(numbers(bias)).toEqual([3]);
  });

  test("float, bool, and a bool that is left to its default", () => {
    expect(numbers(call("layer_norm", "", floats(-1, 1), [2], null, null, 3))).toEqual([-0.5, 0.5]); // variance 1 + eps 3: divided by 2
    expect(binding.shapeOf(call("sum", "dim_IntList", floats(1, 2), [0], true) as TensorHandle)).toEqual([1]);
    expect(binding.shapeOf(call("sum", "dim_IntList", floats(1, 2), [0]) as TensorHandle)).toEqual([]);
  });

  test("a scalar as whole number, fraction, bool and bigint", () => {
    expect(dtype(call("add", "Scalar", longs(1), 2))).toBe("int64");
    expect(dtype(call("add", "Scalar", longs(1), 0.5))).toBe("float32");
    expect(numbers(call("add", "Scalar", floats(1), true))).toEqual([2]);
    const large = 2n ** 60n + 1n; // no double holds it
    const sum = call("add", "Scalar", longs(0), large) as TensorHandle;
    expect(binding.toData(sum)).toEqual(BigInt64Array.of(large));
    expect(() => call("add", "Scalar", longs(0), 2n ** 63n)).toThrow(
      expect.objectContaining({ name: "TypeError", code: "E_ARGUMENT", message: "a bigint argument does not fit int64" }),
    );
  });

  test("an infinite scalar", () => {
    expect(numbers(call("clamp", "", floats(-1, 5), Number.NEGATIVE_INFINITY, 2))).toEqual([-1, 2]);
    expect(numbers(call("add", "Scalar", floats(1), Number.POSITIVE_INFINITY))).toEqual([Number.POSITIVE_INFINITY]);
  });

  test("dtype and device by name; unknown ones are refused", () => {
    const made = call("ones", "", [2], "bfloat16", null, "cpu") as TensorHandle;
    expect([binding.dtypeOf(made), binding.deviceOf(made), ...numbers(made)]).toEqual(["bfloat16", "cpu", 1, 1]);
    expect(() => call("ones", "", [2], "float8")).toThrow(expect.objectContaining({ code: "E_ARGUMENT", message: "unknown dtype float8" }));
    expect(() => call("ones", "", [2], "float32", null, "tpu9")).toThrow(
      expect.objectContaining({ code: "E_NATIVE", message: expect.stringMatching(/tpu9/) }),
    );
  });

  test("a string, required and optional", () => {
    expect(numbers(call("div", "Tensor_mode", floats(7, -7), floats(2, 2), "floor"))).toEqual([3, -4]);
    expect(numbers(call("div", "Tensor_mode", floats(7, -7), floats(2, 2), "trunc"))).toEqual([3, -3]);
    expect(numbers(call("div", "Tensor_mode", floats(7), floats(2), null))).toEqual([3.5]);
    const matrix = call("reshape", "", floats(1, 2, 3, 4), [2, 2]) as TensorHandle;
    expect(numbers(call("linalg_norm", "ord_str", matrix, "fro"))[0]).toBeCloseTo(Math.sqrt(30), 5);
  });

  test("a generator: the same seed draws the same numbers", () => {
    const draw = (seed: number): number[] => numbers(call("rand", "generator", [3], binding.createGenerator(seed), "float64"));
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5)).not.toEqual(draw(6));
  });

  test("None where a tensor is optional", () => {
    expect(numbers(call("clamp", "Tensor", floats(-1, 5), null, floats(2, 2)))).toEqual([-1, 2]);
  });

  test.each([
    ["a string for a tensor list", () => call("cat", "", "tensors")],
    ["a tensor for an int list", () => call("reshape", "", floats(1), floats(1))],
    ["a number for a string", () => call("div", "Tensor_mode", floats(1), floats(1), 3)],
    ["a string for a scalar", () => call("add", "Scalar", floats(1), "one")],
    ["null for a tensor that is not optional", () => call("neg", "", null)],
    ["a number for a bool", () => call("sum", "dim_IntList", floats(1), [0], 1)],
  ])("%s is an argument error", (_, run) => {
    expect(run).toThrow(expect.objectContaining({ name: "TypeError", code: "E_ARGUMENT" }));
  });
});

describe("every kind of result of a boxed call", () => {
  test("several tensors", () => {
    const [values, indices] = call("topk", "", floats(3, 9, 5), 2) as NativeResult[];
    expect([numbers(values), numbers(indices)]).toEqual([
      [9, 5],
      [1, 2],
    ]);
  });

  test("a list of tensors", () => {
    const parts = call("split", "Tensor", floats(1, 2, 3), 2) as NativeResult[];
    expect(parts.map(numbers)).toEqual([[1, 2], [3]]);
  });

  test("a number, a bool, and nothing", () => {
    expect(call("_local_scalar_dense", "", floats(2.5))).toBe(2.5);
    expect(call("equal", "", floats(1, 2), floats(1, 2))).toBe(true);
    expect(call("is_nonzero", "", floats(0))).toBe(false);
    expect(call("size", "int", call("reshape", "", floats(1, 2, 3, 4, 5, 6), [2, 3]) as TensorHandle, 1)).toBe(3);
    expect(call("_foreach_zero_", "", [floats(1)])).toBeUndefined();
  });

  test("an operator in place writes into the memory of its argument", () => {
    const x = floats(1, 2);
    const result = call("add_", "Scalar", x, 1) as TensorHandle;
    expect([numbers(x), binding.addressOf(result)]).toEqual([[2, 3], binding.addressOf(x)]);
  });
});
