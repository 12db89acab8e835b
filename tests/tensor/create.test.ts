import { describe, expect, test } from "vitest";
import { binding, type DType } from "../../src/native/binding.ts";
import { arange, cat, empty, fromData, fromNumbers, full, indices, ones, stack, tensor, zeros } from "../../src/tensor/create.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

const dtypes: DType[] = ["float32", "bfloat16", "int64", "bool", "float64", "float16", "int32", "int16", "int8", "uint8"];

describe("tensor()", () => {
  test("numbers give float32, booleans bool, and a mixture numbers", () => {
    expect([tensor([1, 2]), tensor([true, false]), tensor([1, true])].map((t) => [t.dtype, t.toArray()])).toEqual([
      ["float32", [1, 2]],
      ["bool", [1, 0]],
      ["float32", [1, 1]],
    ]);
  });

  test("nested arrays give their shape, a number a scalar, and an empty array an empty tensor", () => {
    expect(
      tensor([
        [[1], [2]],
        [[3], [4]],
        [[5], [6]],
      ]).shape,
    ).toEqual([3, 2, 1]);
    expect([tensor(5).shape, tensor(5).toArray(), tensor(true).dtype]).toEqual([[], 5, "bool"]);
    expect([tensor([]).shape, tensor([]).toArray(), tensor([[], []]).shape, tensor([[], []]).toArray()]).toEqual([
      [0],
      [],
      [2, 0],
      [[], []],
    ]);
  });

  test.each(dtypes)("%s, there and back", (dtype) => {
    const made = tensor(
      [
        [0, 1],
        [1, 0],
      ],
      { dtype },
    );
    expect([made.dtype, made.shape, made.toArray()]).toEqual([
      dtype,
      [2, 2],
      [
        [0, 1],
        [1, 0],
      ],
    ]);
    expect(tensor([true, false], { dtype }).toArray()).toEqual([1, 0]);
  });

  test("values keep what their dtype can hold", () => {
    expect(tensor([0.1], { dtype: "float64" }).toArray()).toEqual([0.1]);
    expect(tensor([0.1]).toArray()).toEqual([Math.fround(0.1)]);
    expect(tensor([2 ** 53 - 1], { dtype: "int64" }).toArray()).toEqual([2 ** 53 - 1]);
    expect(tensor([-128, 127], { dtype: "int8" }).toArray()).toEqual([-128, 127]);
    expect(tensor([255], { dtype: "uint8" }).toArray()).toEqual([255]);
    expect(tensor([-32768], { dtype: "int16" }).toArray()).toEqual([-32768]);
    expect(tensor([Number.NaN, Number.POSITIVE_INFINITY]).toArray()).toEqual([Number.NaN, Number.POSITIVE_INFINITY]);
    expect(tensor([2, -3], { dtype: "bool" }).toArray()).toEqual([1, 1]);
  });

  test.each([
    { values: [[1, 2], [3]], message: /^tensor\(\): rows differ in length: 1 beside 2 in dimension 1/ },
    { values: [[1], 2], message: /^tensor\(\): expected nested arrays/ },
    { values: [1, [2]], message: /^tensor\(\): rows differ in length/ },
    { values: ["1"], message: /^tensor\(\): expected nested arrays of numbers or booleans, got string at depth 1/ },
    { values: [undefined], message: /got undefined/ },
  ])("refuses $values", ({ values, message }) => {
    expect(() => tensor(values as never)).toThrow(expect.objectContaining({ name: "TypeError", message: expect.stringMatching(message) }));
  });
});

describe("fromData and data()", () => {
  test("every kind of typed array converts to every dtype", () => {
    const sources = [
      Float32Array.of(1, 0),
      Float64Array.of(1, 0),
      BigInt64Array.of(1n, 0n),
      Int32Array.of(1, 0),
      Int16Array.of(1, 0),
      Int8Array.of(1, 0),
      Uint8Array.of(1, 0),
    ];
    for (const source of sources) {
      for (const dtype of dtypes) expect([dtype, fromData(source, [2], dtype).toArray()]).toEqual([dtype, [1, 0]]);
    }
  });

  test("the typed array that comes out has the dtype's own kind", () => {
    const kinds = {
      float32: Float32Array,
      float64: Float64Array,
      int64: BigInt64Array,
      int32: Int32Array,
      int16: Int16Array,
      int8: Int8Array,
      uint8: Uint8Array,
      bool: Uint8Array,
      bfloat16: Float32Array,
      float16: Float32Array,
    };
    for (const dtype of dtypes)
      expect(ones([2], dtype).data()).toEqual(
        (kinds[dtype] as { from(x: unknown[]): unknown }).from(dtype === "int64" ? [1n, 1n] : [1, 1]),
      );
  });

  test("a Uint16Array is the raw bits of bfloat16 and float16", () => {
    // bfloat16 is the upper half of float32: 1 = 0x3f80, -2 = 0xc000, 1.0078125 = 0x3f81; float16: 1 = 0x3c00, -2 = 0xc000
    expect(fromData(Uint16Array.of(0x3f80, 0xc000, 0x3f81), [3], "bfloat16").toArray()).toEqual([1, -2, 1.0078125]);
    expect(fromData(Uint16Array.of(0x3c00, 0xc000), [2], "float16").toArray()).toEqual([1, -2]);
    expect(binding.toBytes(tensor([1, -2], { dtype: "bfloat16" }).handle)).toEqual(Uint8Array.of(0x80, 0x3f, 0, 0xc0));
  });

  test("the data is copied in and out: neither side sees later writes of the other", () => {
    const source = Float32Array.of(1, 2);
    const made = fromData(source, [2], "float32");
    source[0] = 9;
    expect(made.toArray()).toEqual([1, 2]);
    (made.data() as Float32Array)[1] = 9;
    expect(made.toArray()).toEqual([1, 2]);
  });

  test("part of a buffer is read from its own offset", () => {
    expect(fromData(new Float32Array(Float32Array.of(1, 2, 3, 4).buffer, 8, 2), [2], "float32").toArray()).toEqual([3, 4]);
  });

  test("a source that is not contiguous comes out in row-major order, as bytes too", () => {
    const matrix = tensor(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      { dtype: "uint8" },
    );
    expect(matrix.transpose(0, 1).toArray()).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    expect(binding.toBytes(matrix.transpose(0, 1).handle)).toEqual(Uint8Array.of(1, 4, 2, 5, 3, 6));
    expect(matrix.slice(1, 0, 2).numbers()).toEqual([1, 2, 4, 5]);
    expect(tensor([7]).expand([3]).toArray()).toEqual([7, 7, 7]);
  });

  test("empty tensors and scalars", () => {
    expect([zeros([0, 3]).toArray(), zeros([2, 0]).toArray(), zeros([]).toArray()]).toEqual([[], [[], []], 0]);
    expect(zeros([0]).data()).toEqual(new Float32Array(0));
    expect(fromData(Float32Array.of(3), [], "float32").item()).toBe(3);
    expect(() => zeros([2]).item()).toThrow(expect.objectContaining({ code: "E_NATIVE" }));
  });
});

describe("makers", () => {
  test("full, zeros, ones, arange, indices, fromNumbers", () => {
    expect(full([2], 2.5).toArray()).toEqual([2.5, 2.5]);
    expect(full([2], 3, "int64").data()).toEqual(BigInt64Array.of(3n, 3n));
    expect([zeros([2], "bool").toArray(), ones([1, 2], "bfloat16").toArray()]).toEqual([[0, 0], [[1, 1]]]);
    expect([arange(2, 5).dtype, arange(2, 5).toArray(), arange(0, 2, "float32").toArray()]).toEqual(["int64", [2, 3, 4], [0, 1]]);
    expect([indices([3, 1]).dtype, indices([3, 1]).toArray()]).toEqual(["int64", [3, 1]]);
    expect(fromNumbers([1, 2, 3, 4], [2, 2], "int16").toArray()).toEqual([
      [1, 2],
      [3, 4],
    ]);
    expect([empty([2, 3], "float64").shape, empty([1], "int8").dtype]).toEqual([[2, 3], "int8"]);
  });

  test("cat joins along a dimension, stack along a new one", () => {
    const [a, b] = [tensor([[1, 2]]), tensor([[3, 4]])];
    expect([cat([a, b]).toArray(), cat([a, b], 1).toArray()]).toEqual([
      [
        [1, 2],
        [3, 4],
      ],
      [[1, 2, 3, 4]],
    ]);
    expect([stack([a, b]).shape, stack([a, b], 1).toArray()]).toEqual([
      [2, 1, 2],
      [
        [
          [1, 2],
          [3, 4],
        ],
      ],
    ]);
  });

  test("a refusal names the operator and its arguments", () => {
    expect(() => cat([tensor([[1, 2]]), tensor([[1]])])).toThrow(
      expect.objectContaining({
        name: "NativeError",
        code: "E_NATIVE",
        message: expect.stringMatching(/^cat\(\[float32\[1, 2\], float32\[1, 1\]\], 0\): Sizes of tensors must match/),
      }),
    );
    expect(() => full([2 ** 40, 2 ** 10], 0)).toThrow(
      expect.objectContaining({
        name: "OutOfMemoryError",
        code: "E_MEMORY",
        message: expect.stringMatching(/^full\(.*use a smaller batch/),
      }),
    );
    expect(new Tensor(tensor([1]).handle).toString()).toBe("float32[1]");
  });
});
