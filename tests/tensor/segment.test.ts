import { describe, expect, test } from "vitest";
import { binding } from "../../src/native/binding.ts";
import { enableGrad, noGrad, segment } from "../../src/tensor/autograd.ts";
import { Generator, randn, tensor } from "../../src/tensor/create.ts";
import { Tensor } from "../../src/tensor/tensor.ts";

/** Runs `layer` without gradients, and again with them when its gradient is asked for: what activation checkpointing does. */
function recomputed(layer: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const [out] = segment([x], [noGrad(() => layer(x))], ([gradient]) => {
    const again = x.detach().requiresGrad_();
    enableGrad(() => layer(again)).backward(gradient);
    return [again.grad];
  });
  if (out === undefined) throw new Error("a segment with one output gave none");
  return out;
}

describe("segment", () => {
  test("gradients over six recomputed layers equal the plain graph's, bit for bit", () => {
    const generator = new Generator(3);
    const weights = Array.from({ length: 6 }, () => randn([8, 8], generator).mul(0.4));
    const input = randn([4, 8], generator);
    const run = (apply: (layer: (x: Tensor) => Tensor, x: Tensor) => Tensor): unknown[] => {
      const x = input.clone().requiresGrad_();
      const leaves = weights.map((w) => w.clone().requiresGrad_());
      let h = x;
      for (const w of leaves) h = apply((y) => y.matmul(w).sigmoid().add(y), h);
      h.mul(h).sum().backward();
      return [h.toArray(), x.grad?.toArray(), ...leaves.map((w) => w.grad?.toArray())];
    };
    expect(run(recomputed)).toEqual(run((layer, x) => layer(x)));
  });

  test("several inputs and outputs, with the gradients of each where it belongs", () => {
    const [a, b] = [tensor([2]).requiresGrad_(), tensor([3]).requiresGrad_()];
    const [sum, product] = segment([a, b], [a.detach().add(b.detach()), a.detach().mul(b.detach())], ([ofSum, ofProduct]) => {
      if (!ofSum || !ofProduct) throw new Error("both outputs have a gradient here");
      return [ofSum.add(ofProduct.mul(b.detach())), ofSum.add(ofProduct.mul(a.detach()))];
    });
    // d/da (10 * (a + b) + 100 * a b) = 10 + 100 b = 310; d/db = 10 + 100 a = 210
    sum
      ?.mul(10)
      .add(product?.mul(100) ?? 0)
      .sum()
      .backward();
    expect([a.grad?.toArray(), b.grad?.toArray()]).toEqual([[310], [210]]);
  });

  test("an output that the loss does not use has no gradient, and an input may get none", () => {
    const [a, b] = [tensor([2]).requiresGrad_(), tensor([3]).requiresGrad_()];
    let seen: unknown[] = [];
    const [used] = segment([a, b], [a.detach().mul(5), b.detach()], (gradients) => {
      seen = gradients.map((g) => g?.toArray());
      return [gradients[0]?.mul(5), undefined];
    });
    used?.sum().backward();
    expect(seen).toEqual([[1], undefined]);
    expect([a.grad?.toArray(), b.grad]).toEqual([[5], undefined]);
  });

  test("an input outside the graph makes it no segment, and backward is never called", () => {
    const [out] = segment([tensor([1])], [tensor([2])], () => {
      throw new Error("must not be called");
    });
    expect([out?.requiresGrad, out?.toArray()]).toEqual([false, [2]]);
    const leaf = tensor([1]).requiresGrad_();
    expect(noGrad(() => segment([leaf], [tensor([2])], () => [undefined]))[0]?.requiresGrad).toBe(false);
  });

  test("a JavaScript exception thrown in backward crosses the engine intact, and the next backward works", () => {
    const failure = new RangeError("from the layer");
    const leaf = tensor([1]).requiresGrad_();
    const [out] = segment([leaf.mul(2)], [tensor([2])], () => {
      throw failure;
    });
    let caught: unknown;
    try {
      out?.sum().backward();
    } catch (error) {
      caught = error;
    }
    expect(caught).toBe(failure);
    leaf.mul(3).sum().backward();
    expect(leaf.grad?.toArray()).toEqual([3]);
  });

  test("grad mode in backward is off, and what backward does to it is undone", () => {
    const leaf = tensor([1]).requiresGrad_();
    const modes: boolean[] = [];
    const [out] = segment([leaf], [leaf.detach().mul(2)], ([gradient]) => {
      modes.push(
        leaf.mul(1).requiresGrad,
        enableGrad(() => leaf.mul(1).requiresGrad),
      );
      return [gradient?.mul(2)];
    });
    out?.sum().backward();
    expect(modes).toEqual([false, true]);
    expect(leaf.mul(1).requiresGrad).toBe(true);
    expect(leaf.grad?.toArray()).toEqual([2]);
  });

  test("a second backward through the same segment is refused", () => {
    const leaf = tensor([1]).requiresGrad_();
    const [out] = segment([leaf], [leaf.detach().mul(2)], ([gradient]) => [gradient?.mul(2)]);
    const loss = out?.mul(1);
    loss?.backward();
    expect(() => loss?.backward()).toThrow(
      expect.objectContaining({
        name: "NativeError",
        code: "E_NATIVE",
        message: expect.stringMatching(/^backward\(float32\[1\]\): .*second time/),
      }),
    );
    expect(leaf.grad?.toArray()).toEqual([2]);
  });

  test("the wrong number of gradients is refused with both counts", () => {
    const leaf = tensor([1]).requiresGrad_();
    const [out] = segment([leaf], [leaf.detach().mul(2)], ([gradient]) => [gradient, gradient]);
    expect(() => out?.sum().backward()).toThrow(
      expect.objectContaining({
        name: "NativeError",
        message: "backward(float32[]): a segment's backward returned 2 gradients for 1 inputs",
      }),
    );
  });

  test.each([
    { returned: "no array", value: undefined, message: /^backward\(float32\[\]\): / },
    { returned: "a number for a gradient", value: [7], message: /^backward\(float32\[\]\): expected a tensor handle/ },
  ])("$returned is refused without ending the process", ({ value, message }) => {
    const leaf = tensor([1]).requiresGrad_();
    const [out] = binding.segment([leaf.handle], [leaf.detach().mul(2).handle], () => value as never);
    expect(() => out && new Tensor(out).sum().backward()).toThrow(
      expect.objectContaining({ name: "NativeError", message: expect.stringMatching(message) }),
    );
  });
});
