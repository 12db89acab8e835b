import { describe, expect, test } from "vitest";
import { tokenLogprobs } from "../../src/model/token-logprobs.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { fromNumbers, Generator, indices, randn, zeros } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

/** Hidden states and a head with the gradient buffer that training gives it. */
function inputs(count: number, width: number, vocab: number) {
  const generator = new Generator(7);
  const hidden = randn([count, width], generator).requiresGrad_();
  // Scaled so that the distributions stay broad: libtorch's float32 softmax loses digits over very uneven long rows.
  const weight = randn([vocab, width], generator).mul(0.3).requiresGrad_();
  weight.setGrad(zeros([vocab, width]));
  const targets = Array.from({ length: count }, (_, i) => (i * 7919 + vocab - 3) % vocab);
  return { hidden, weight, targets };
}

// 2^24 logits fit one chunk: the small vocabulary needs one, the large one (64 rows a chunk) two of unequal length.
describe.each([
  [5, 4, 11],
  [70, 2, 2 ** 18],
])("%i tokens, width %i, vocabulary of %i", (count, width, vocab) => {
  test("log-probabilities and both gradients are those of autograd through log_softmax", () => {
    const temperature = 0.7;
    const { hidden, weight, targets } = inputs(count, width, vocab);
    const slope = fromNumbers(
      Array.from({ length: count }, (_, i) => (i % 4) - 1.5),
      [count],
      "float32",
    );
    const index = indices(targets);

    const { logprobs } = tokenLogprobs({ hidden, weight, targets: index, temperature });
    logprobs.backward(slope);

    // In float64, so that only one side rounds over the long sums.
    const plainHidden = hidden.detach().to("float64").requiresGrad_(),
      plainWeight = weight.detach().to("float64").requiresGrad_();
    const plain = plainHidden.matmul(plainWeight.transpose(0, 1)).div(temperature).logSoftmax(1).gather(1, index.unsqueeze(1)).squeeze(1);
    plain.backward(slope.to("float64"));

    assertClose(logprobs, plain);
    assertClose(hidden.grad ?? 0, plainHidden.grad ?? 0, { rtol: 1e-4, atol: 3e-5 });
    const difference = weight.grad
      ?.sub(plainWeight.grad ?? 0)
      .abs()
      .max()
      .item();
    expect(difference).toBeLessThan(1e-5);
    expect(plainWeight.grad?.abs().max().item()).toBeGreaterThan(0.1);
  });
});

test("gradients are slopes of the log-probabilities, by central differences", () => {
  const { hidden, weight, targets } = inputs(3, 4, 6);
  const sum = (h = hidden, w = weight) =>
    tokenLogprobs({ hidden: h, weight: w, targets: indices(targets), temperature: 1.4 }).logprobs.sum();
  sum().backward();
  const step = 1e-2;
  for (const leaf of [hidden, weight]) {
    const gradient = leaf.grad?.numbers() ?? [];
    for (const at of [0, 5, 11]) {
      const nudged = (by: number) =>
        noGrad(() => {
          const values = leaf.numbers();
          values[at] = (values[at] ?? Number.NaN) + by;
          const moved = fromNumbers(values, leaf.shape, "float32");
          return leaf === hidden ? sum(moved, weight).item() : sum(hidden, moved).item();
        });
      assertClose((nudged(step) - nudged(-step)) / (2 * step), gradient[at] ?? Number.NaN, { rtol: 1e-2, atol: 1e-3 });
    }
  }
});

test("entropies are those of the tempered distribution, and carry no gradient", () => {
  // Logits 2 x (0, ln 3): softmax 0.1, 0.9 at temperature 1; 0.25, 0.75 at temperature 2.
  const hidden = fromNumbers([2], [1, 1], "float32"),
    weight = fromNumbers([0, Math.log(3)], [2, 1], "float32");
  for (const [temperature, p] of [
    [1, 0.1],
    [2, 0.25],
  ] as const) {
    const { logprobs, entropies } = tokenLogprobs({ hidden, weight, targets: indices([0]), temperature, entropies: true });
    if (!entropies) throw new Error("entropies were asked for");
    assertClose(logprobs, [Math.log(p)], { rtol: 1e-5 });
    assertClose(entropies, [-(p * Math.log(p) + (1 - p) * Math.log(1 - p))], { rtol: 1e-5 });
    expect(entropies.requiresGrad).toBe(false);
  }
});

test("the head's gradient adds to what its buffer holds, and a head that does not train gets none", () => {
  const { hidden, weight, targets } = inputs(3, 4, 6);
  const backward = () =>
    tokenLogprobs({ hidden, weight, targets: indices(targets) })
      .logprobs.sum()
      .backward();
  backward();
  const once = weight.grad?.numbers() ?? [];
  backward();
  assertClose(
    weight.grad?.numbers() ?? [],
    once.map((x) => 2 * x),
  );
  const frozen = weight.detach();
  tokenLogprobs({ hidden, weight: frozen, targets: indices(targets) })
    .logprobs.sum()
    .backward();
  expect(frozen.grad).toBeUndefined();
});
