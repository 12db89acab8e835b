import { describe, expect, test } from "vitest";
import { binding } from "../../src/native/binding.ts";
import { enableGrad, noGrad } from "../../src/tensor/autograd.ts";
import { tensor, zeros } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

describe("gradients", () => {
  test("of a scalar, and of a tensor with the gradient given", () => {
    const x = tensor([1, 2]).requiresGrad_();
    x.mul(x).sum().backward();
    expect(x.grad?.toArray()).toEqual([2, 4]);
    const y = tensor([1, 2]).requiresGrad_();
    y.mul(3).backward(tensor([10, 100]));
    expect(y.grad?.toArray()).toEqual([30, 300]);
  });

  test("two backwards give twice, in place into the gradient that was set", () => {
    const buffer = zeros([4]);
    const leaf = tensor([1, 2]).requiresGrad_();
    leaf.setGrad(buffer.slice(0, 2, 4));
    for (let i = 0; i < 2; i++) leaf.mul(3).sum().backward();
    expect(buffer.toArray()).toEqual([0, 0, 6, 6]);
    leaf.setGrad(undefined);
    expect(leaf.grad).toBeUndefined();
  });

  test("a bfloat16 leaf accumulates in place into a float32 gradient, without rounding the sum", () => {
    const leaf = tensor([1], { dtype: "bfloat16" }).requiresGrad_();
    const gradient = zeros([1]);
    leaf.setGrad(gradient);
    // 256 + 1 has no bfloat16: a bfloat16 sum would stay at 256
    leaf.mul(256).sum().backward();
    leaf.mul(1).sum().backward();
    expect([gradient.dtype, gradient.toArray()]).toEqual(["float32", [257]]);
    expect(binding.addressOf(leaf.grad?.handle ?? gradient.handle)).toBe(binding.addressOf(gradient.handle));
    expect(leaf.grad?.dtype).toBe("float32");
  });

  test("a matrix product's gradient equals finite differences in float64", () => {
    const [a, b] = [
      [
        [0.5, -1],
        [2, 0.25],
      ],
      [
        [1, 3],
        [-2, 0.5],
      ],
    ];
    const loss = (at: number[][]): number => {
      let sum = 0;
      for (const i of [0, 1])
        for (const j of [0, 1]) sum += Math.exp([0, 1].reduce((dot, k) => dot + (at[i]?.[k] ?? 0) * (b[k]?.[j] ?? 0), 0));
      return sum;
    };
    const leaf = tensor(a, { dtype: "float64" }).requiresGrad_();
    leaf
      .matmul(tensor(b, { dtype: "float64" }))
      .exp()
      .sum()
      .backward();
    const h = 1e-6;
    const expected = a.map((row, i) =>
      row.map((_, j) => {
        const shifted = (by: number): number[][] => a.map((r, p) => r.map((v, q) => (p === i && q === j ? v + by : v)));
        return (loss(shifted(h)) - loss(shifted(-h))) / (2 * h);
      }),
    );
    assertClose(leaf.grad ?? [], expected, { rtol: 1e-7 });
  });

  test("a backward that libtorch refuses names the tensor", () => {
    expect(() => tensor([1, 2]).requiresGrad_().mul(2).backward()).toThrow(
      expect.objectContaining({ name: "NativeError", code: "E_NATIVE", message: expect.stringMatching(/^backward\(float32\[2\]\): /) }),
    );
    expect(() => tensor(1).backward()).toThrow(
      expect.objectContaining({ name: "NativeError", message: expect.stringMatching(/does not require grad/) }),
    );
    const x = tensor([1]).requiresGrad_();
    const y = x.mul(x).sum();
    y.backward();
    expect(() => y.backward()).toThrow(expect.objectContaining({ name: "NativeError", message: expect.stringMatching(/second time/) }));
  });
});

describe("noGrad and enableGrad", () => {
  const leaf = tensor([1]).requiresGrad_();
  const records = (): boolean => leaf.mul(2).requiresGrad;

  test("nest, and restore what was before, also after an error", () => {
    const seen: boolean[] = [records()];
    noGrad(() => {
      seen.push(records());
      enableGrad(() => {
        seen.push(records());
        noGrad(() => {
          seen.push(records());
        });
        seen.push(records());
      });
      seen.push(records());
      expect(() =>
        enableGrad(() => {
          throw new RangeError("inside");
        }),
      ).toThrow(RangeError);
      seen.push(records());
    });
    seen.push(records());
    expect(seen).toEqual([true, false, true, false, true, false, false, true]);
    expect(noGrad(() => 7)).toBe(7);
  });

  test("refuse a function that returns a promise, and grad mode is restored", async () => {
    for (const [name, scope] of [
      ["noGrad", noGrad],
      ["enableGrad", enableGrad],
    ] as const) {
      const later = Promise.resolve(1);
      expect(() => scope(() => later)).toThrow(
        expect.objectContaining({
          name: "TypeError",
          message: `${name}(): expected a synchronous function, got one that returns a promise; await outside of ${name}()`,
        }),
      );
      await later;
      expect(records()).toBe(true);
    }
  });
});
