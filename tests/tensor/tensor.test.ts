import { describe, expect, test } from "vitest";
import { binding } from "../../src/native/binding.ts";
import { indices, tensor, zeros } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";

const x = tensor([
  [1, -2],
  [3, 4],
]);
const arrays = (...tensors: Tensor[]): unknown[] => tensors.map((t) => t.toArray());

describe("elementwise", () => {
  test("arithmetic with a tensor, a row and a number", () => {
    const row = tensor([10, 20]);
    expect(arrays(x.add(row), x.sub(row), x.mul(row), x.div(tensor([2, 4])))).toEqual([
      [
        [11, 18],
        [13, 24],
      ],
      [
        [-9, -22],
        [-7, -16],
      ],
      [
        [10, -40],
        [30, 80],
      ],
      [
        [0.5, -0.5],
        [1.5, 1],
      ],
    ]);
    expect(arrays(x.add(1), x.sub(1), x.mul(2), x.div(2), x.neg(), x.abs(), x.pow(2))).toEqual([
      [
        [2, -1],
        [4, 5],
      ],
      [
        [0, -3],
        [2, 3],
      ],
      [
        [2, -4],
        [6, 8],
      ],
      [
        [0.5, -1],
        [1.5, 2],
      ],
      [
        [-1, 2],
        [-3, -4],
      ],
      [
        [1, 2],
        [3, 4],
      ],
      [
        [1, 4],
        [9, 16],
      ],
    ]);
    expect(tensor([3], { dtype: "int64" }).div(2).toArray()).toEqual([1.5]); // true division
  });

  test("functions", () => {
    const y = tensor([0.25, 1, 4]);
    const of = (f: (x: number) => number): number[] => [0.25, 1, 4].map(f);
    assertClose(
      [y.exp(), y.log(), y.sqrt(), y.rsqrt(), y.cos(), y.sin()].map((t) => t.toArray()),
      [of(Math.exp), of(Math.log), of(Math.sqrt), of((v) => 1 / Math.sqrt(v)), of(Math.cos), of(Math.sin)],
      { rtol: 1e-6, atol: 1e-6 },
    );
    assertClose(
      y.sigmoid(),
      of((v) => 1 / (1 + Math.exp(-v))),
      { rtol: 1e-6 },
    );
    assertClose(tensor([-100, 0, 100]).logSigmoid(), [-100, -Math.LN2, 0], { rtol: 1e-6 });
  });

  test("bounds and choice; a NaN under a false mask stays out", () => {
    expect(arrays(x.clamp(0, 3), x.clamp(undefined, 0), x.clamp(2), x.maximum(tensor([2, 2])), x.minimum(tensor([2, 2])))).toEqual([
      [
        [1, 0],
        [3, 3],
      ],
      [
        [0, -2],
        [0, 0],
      ],
      [
        [2, 2],
        [3, 4],
      ],
      [
        [2, 2],
        [3, 4],
      ],
      [
        [1, -2],
        [2, 2],
      ],
    ]);
    const mask = tensor([true, false]);
    expect(arrays(tensor([1, Number.NaN]).where(mask, 7), tensor([1, 2]).where(mask, tensor([8, 9])))).toEqual([
      [1, 7],
      [1, 9],
    ]);
    expect(tensor([1, Number.NaN]).maskedSum(mask).item()).toBe(1);
  });

  test("comparisons give bool", () => {
    const two = tensor([1, 2]);
    expect(two.equal(2).dtype).toBe("bool");
    expect(
      arrays(
        two.equal(2),
        two.notEqual(2),
        two.greater(1),
        two.less(2),
        two.equal(tensor([1, 1])),
        two.notEqual(tensor([1, 1])),
        two.greater(tensor([0, 2])),
        two.less(tensor([2, 2])),
      ),
    ).toEqual([
      [0, 1],
      [1, 0],
      [0, 1],
      [1, 0],
      [1, 0],
      [0, 1],
      [1, 0],
      [1, 0],
    ]);
    const [yes, half] = [tensor([true, true]), tensor([true, false])];
    expect(arrays(half.logicalNot(), yes.logicalAnd(half), yes.all(), half.all(), tensor([1, Number.NaN]).isFinite())).toEqual([
      [0, 1],
      [1, 0],
      1,
      0,
      [1, 0],
    ]);
  });
});

describe("reductions", () => {
  test("sum, mean, extremes, running sum", () => {
    expect(
      arrays(
        x.sum(),
        x.sum([0]),
        x.sum([1], true),
        x.mean(),
        x.mean([1]),
        x.max(),
        x.min(),
        x.amax(1),
        x.amax(0, true),
        x.argmax(1),
        x.cumsum(1),
      ),
    ).toEqual([
      6,
      [4, 2],
      [[-1], [7]],
      1.5,
      [-0.5, 3.5],
      4,
      -2,
      [1, 4],
      [[3, 4]],
      [0, 1],
      [
        [1, -1],
        [3, 7],
      ],
    ]);
    expect(tensor([true, true]).sum().dtype).toBe("int64");
    assertClose(x.norm().item(), Math.sqrt(30));
    expect(tensor([3, 4], { dtype: "bfloat16" }).norm().dtype).toBe("float32");
  });

  test("softmax and its kin compute in float32, in float64 for float64", () => {
    const e = [1, Math.exp(-3)];
    const sum = 1 + Math.exp(-3);
    const row = tensor([[4, 1]], { dtype: "bfloat16" });
    assertClose(row.softmax(1), [e.map((v) => v / sum)]);
    assertClose(row.logSoftmax(1), [e.map((v) => Math.log(v / sum))]);
    expect([row.softmax(1).dtype, row.to("float64").logSoftmax(1).dtype]).toEqual(["float32", "float64"]);
    assertClose(tensor([[4, 1]]).logSumExp(1), [4 + Math.log(sum)]);
  });
});

describe("shape", () => {
  test("views share memory with their base", () => {
    const base = zeros([2, 3]);
    for (const view of [
      base.reshape([3, 2]),
      base.transpose(0, 1),
      base.permute([1, 0]),
      base.slice(0, 0, 1),
      base.select(0, 0),
      base.unsqueeze(0),
      base.expand([4, 2, 3]),
      base.detach(),
    ]) {
      expect(binding.addressOf(view.handle)).toBe(binding.addressOf(base.handle));
    }
    expect([
      base.reshape([-1]).shape,
      base.permute([1, 0]).shape,
      base.unsqueeze(1).shape,
      base.unsqueeze(0).squeeze(0).shape,
      base.expand([4, 2, 3]).shape,
    ]).toEqual([[6], [3, 2], [2, 1, 3], [2, 3], [4, 2, 3]]);
    base.slice(1, -1).fill_(5);
    expect(base.toArray()).toEqual([
      [0, 0, 5],
      [0, 0, 5],
    ]);
    expect(binding.addressOf(base.clone().handle)).not.toBe(binding.addressOf(base.handle));
    expect([base.size, zeros([]).size, zeros([2, 0]).size]).toEqual([6, 1, 0]);
  });

  test("picking", () => {
    expect(
      arrays(
        x.select(1, 1),
        x.slice(0, 1),
        x.slice(1, 0, -1),
        x.flip(1),
        x.indexSelect(0, indices([1, 1, 0])),
        x.gather(1, tensor([[1], [0]], { dtype: "int64" })),
      ),
    ).toEqual([
      [-2, 4],
      [[3, 4]],
      [[1], [3]],
      [
        [-2, 1],
        [4, 3],
      ],
      [
        [3, 4],
        [3, 4],
        [1, -2],
      ],
      [[-2], [3]],
    ]);
    expect(x.matmul(tensor([[1], [2]])).toArray()).toEqual([[-3], [11]]);
  });
});

describe("dtype and memory", () => {
  test("to() converts, and gives the tensor itself where it has the dtype", () => {
    expect(x.to("float32")).toBe(x);
    expect(tensor([1.7, -1.7]).to("int64").toArray()).toEqual([1, -1]);
    expect(tensor([1.001]).to("bfloat16").toArray()).toEqual([1]);
    expect([x.toDevice("cpu").device, x.toDevice("cpu").toArray()]).toEqual(["cpu", x.toArray()]);
    expect(tensor([1, -2]).viewAs("int32").toArray()).toEqual([0x3f800000, 0xc0000000 - 2 ** 32]);
    expect(x.transpose(0, 1).contiguous().toArray()).toEqual([
      [1, 3],
      [-2, 4],
    ]);
  });

  test("a disposed tensor is refused, and the message of an operator says so", () => {
    const gone = tensor([1]);
    gone.dispose();
    gone.dispose();
    expect(() => tensor([1]).add(gone)).toThrow(
      expect.objectContaining({
        name: "NativeError",
        message: "add(float32[1], not a live tensor): this tensor was freed (by tidy() or dispose()) and cannot be used any more",
      }),
    );
  });

  test("what ends in an underscore writes in place and gives the tensor itself", () => {
    const y = zeros([3]);
    expect(y.add_(tensor([1, 2, 3]), 2)).toBe(y);
    expect(y.toArray()).toEqual([2, 4, 6]);
    expect(y.mul_(0.5).toArray()).toEqual([1, 2, 3]);
    expect(y.copy_(tensor([7, 8, 9])).toArray()).toEqual([7, 8, 9]);
    expect(y.indexCopy_(0, indices([2]), tensor([1])).toArray()).toEqual([7, 8, 1]);
    expect(y.indexAdd_(0, indices([0, 0]), tensor([1, 1])).toArray()).toEqual([9, 8, 1]);
    expect(y.scatterAdd_(0, indices([1]), tensor([2])).toArray()).toEqual([9, 10, 1]);
    expect(y.fill_(3).zero_().toArray()).toEqual([0, 0, 0]);
    expect(
      tensor([[1]])
        .addmm_(tensor([[2, 3]]), tensor([[4], [5]]))
        .toArray(),
    ).toEqual([[24]]);
  });
});
