import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { policyLoss, valueLoss } from "../../src/ppo/losses.ts";
import { tensor } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { append, batches, countTrue } from "./arbitrary-batch.ts";
import { original, peers } from "./goldens.ts";

const step = { clipRange: 0.2, totalTokens: 1 };

/** Eq. 7 token by token in float64. */
function slowPolicyLoss(
  logprobs: number[][],
  oldLogprobs: number[][],
  advantages: number[][],
  mask: boolean[][],
  clipRange: number,
): number {
  let sum = 0;
  for (const [i, row] of logprobs.entries()) {
    for (const [t, logprob] of row.entries()) {
      if (!mask[i]?.[t]) continue;
      const ratio = Math.exp(logprob - (oldLogprobs[i]?.[t] ?? 0));
      const clipped = Math.max(1 - clipRange, Math.min(1 + clipRange, ratio));
      const advantage = advantages[i]?.[t] ?? 0;
      sum -= Math.min(ratio * advantage, clipped * advantage);
    }
  }
  return sum;
}

function slowValueLoss(values: number[][], oldValues: number[][], returns: number[][], mask: boolean[][], range: number): number {
  let sum = 0;
  for (const [i, row] of values.entries()) {
    for (const [t, value] of row.entries()) {
      if (!mask[i]?.[t]) continue;
      const old = oldValues[i]?.[t] ?? 0;
      const target = returns[i]?.[t] ?? 0;
      const clipped = Math.max(old - range, Math.min(old + range, value));
      sum += 0.5 * Math.max((value - target) ** 2, (clipped - target) ** 2);
    }
  }
  return sum;
}

/** Central differences of `loss` with respect to each element of `at`, in float64. */
function finiteDifferences(at: number[][], loss: (at: number[][]) => number): number[][] {
  const h = 1e-6;
  return at.map((row, i) =>
    row.map((_, j) => {
      const shifted = (by: number): number[][] => at.map((r, a) => r.map((x, b) => (a === i && b === j ? x + by : x)));
      return (loss(shifted(h)) - loss(shifted(-h))) / (2 * h);
    }),
  );
}

describe("policyLoss", () => {
  test("stops rewarding a token once its ratio passes 1 + clipRange", () => {
    // ratio = e^1 = 2.718..., clipped to 1.2; A = 2: objective = min(5.437, 2.4)
    const { loss, clipFraction, approxKl, ratioMax } = policyLoss({
      ...step,
      logprobs: tensor([[-1]]),
      oldLogprobs: tensor([[-2]]),
      advantages: tensor([[2]]),
      responseMask: tensor([[1]]),
    });
    assertClose(loss.item(), -2.4);
    expect(clipFraction.item()).toBe(1);
    assertClose(approxKl.item(), Math.E - 1 - 1);
    assertClose(ratioMax.item(), Math.E - 1);
  });

  test("weights each token, without a gradient through the weights", () => {
    // ratios 1: -(0.5 * 2 + 2 * -3) / 2 = 2.5, and the gradient of each log-probability is -w A / 2
    const logprobs = tensor([[-1, -2]]).requiresGrad_();
    const importanceWeights = tensor([[0.5, 2]]).requiresGrad_();
    const batch = { ...step, logprobs, oldLogprobs: tensor([[-1, -2]]), advantages: tensor([[2, -3]]), responseMask: tensor([[1, 1]]) };
    const { loss } = policyLoss({ ...batch, importanceWeights, totalTokens: 2 });
    assertClose(loss.item(), 2.5);
    loss.backward();
    assertClose(logprobs.grad as Tensor, [[-0.5, 3]]);
    expect(importanceWeights.grad).toBeUndefined();
  });

  test("keeps punishing a bad token whose ratio grew: the clip only bounds improvement", () => {
    // A = -2: min(2.718 * -2, 1.2 * -2) is the unclipped side
    const { loss, clipFraction } = policyLoss({
      ...step,
      logprobs: tensor([[-1]]),
      oldLogprobs: tensor([[-2]]),
      advantages: tensor([[-2]]),
      responseMask: tensor([[1]]),
    });
    assertClose(loss.item(), 2 * Math.E);
    expect(clipFraction.item()).toBe(0);
  });

  const shared = {
    logprobs: tensor(peers.newLogprobs),
    oldLogprobs: tensor(peers.logprobs),
    responseMask: tensor(peers.responseMask),
    clipRange: 0.2,
    totalTokens: 7,
  };

  test("equals verl and OpenRLHF on their own advantages", () => {
    const verl = [
      [1.0371027, 0.9418965, 1.1453197, 0.5623934],
      [-0.3693314, -0.7409874, -0.9297774, -1.0842228],
    ];
    const { loss, clipFraction } = policyLoss({ ...shared, advantages: tensor(verl) });
    assertClose(loss.item(), 0.0095097, { atol: 1e-6 });
    assertClose(clipFraction.item(), 0.4285714);
    const openRlhf = [
      [1.120199, 1.0173644, 1.2370865, 0.6074543],
      [-0.3989235, -0.8003578, -1.0042742, -1.1710943],
    ];
    assertClose(policyLoss({ ...shared, advantages: tensor(openRlhf) }).loss.item(), 0.0102716, { atol: 1e-6 });
  });

  test("equals DeepSpeed-Chat, whose own micro-batch is the whole step", () => {
    const advantages = tensor([
      [0.7357749, 0.5745, 0.91, 1.2],
      [-1.5504074, -2.1688499, -2.483, -2.74],
    ]);
    assertClose(policyLoss({ ...shared, advantages }).loss.item(), 1.0674592, { atol: 1e-6 });
  });

  test.each([
    { mask: [[1, 1, 0, 0]], advantages: [[1.33055, 2.169, 1.62, 0]], totalTokens: 2, expected: -1.794248 },
    { mask: [[1, 1, 1, 1]], advantages: [[3.818291, 4.787675, 4.3765, 4.27]], totalTokens: 4, expected: -4.420163 },
  ])("equals the original's worked example over $totalTokens tokens", ({ mask, advantages, totalTokens, expected }) => {
    const { loss } = policyLoss({
      logprobs: tensor([[-0.5, -0.1, -1, -0.3]]),
      oldLogprobs: tensor([[-0.2, -0.4, -1.1, -0.3]]),
      advantages: tensor(advantages),
      responseMask: tensor(mask),
      clipRange: 0.2,
      totalTokens,
    });
    assertClose(loss.item(), expected, { atol: 1e-6 });
  });

  test.each(original.ppo.map((c, i) => ({ i, c })))("equals DeepSpeed-Chat's own function, case $i", ({ c }) => {
    const { loss } = policyLoss({
      logprobs: tensor(c.newLogprobs),
      oldLogprobs: tensor(c.logprobs),
      advantages: tensor(c.advantages),
      responseMask: tensor(c.responseMask),
      clipRange: c.clipRange,
      totalTokens: countTrue(c.responseMask),
    });
    assertClose(loss.item(), c.policyLoss);
  });

  test("its gradient equals finite differences of the formula in float64", () => {
    // ratios 1.22 and 0.82 with either sign of A: inside and outside of the trust region, clip binding and not
    const [old, advantages] = [[[-1, -2, -0.5, -1.5]], [[1.5, -0.7, 2, -0.3]]];
    const mask = [[true, true, true, true]];
    for (const shift of [0.1, 0.3, -0.1, -0.4]) {
      const logprobs = old.map((row) => row.map((x) => x + shift));
      const leaf = tensor(logprobs).requiresGrad_();
      policyLoss({
        logprobs: leaf,
        oldLogprobs: tensor(old),
        advantages: tensor(advantages),
        responseMask: tensor(mask),
        clipRange: 0.2,
        totalTokens: 4,
      }).loss.backward();
      const expected = finiteDifferences(logprobs, (at) => slowPolicyLoss(at, old, advantages, mask, 0.2) / 4);
      assertClose(leaf.grad ?? [], expected, { rtol: 1e-4, atol: 1e-6 });
    }
  });

  test("padding reaches neither the loss nor the gradient, not even as NaN", () => {
    const batch = { ...step, responseMask: tensor([[1, 0]]) };
    const gradientOf = (padding: number): { loss: number; gradient: unknown } => {
      const logprobs = tensor([[-0.9, padding]]).requiresGrad_();
      const { loss } = policyLoss({ ...batch, logprobs, oldLogprobs: tensor([[-1, padding]]), advantages: tensor([[1, padding]]) });
      loss.backward();
      return { loss: loss.item(), gradient: logprobs.grad?.toArray() };
    };
    const clean = gradientOf(-1);
    expect(clean.gradient).toEqual([[expect.closeTo(-Math.exp(0.1), 5), 0]]);
    expect(gradientOf(Number.NaN)).toEqual(clean);
  });

  test("a log ratio beyond 20 is cut there, so that no ratio overflows; only NaN at a token that counts is passed on", () => {
    const token = { ...step, oldLogprobs: tensor([[-200]]), advantages: tensor([[-1]]), responseMask: tensor([[1]]) };
    assertClose(policyLoss({ ...token, logprobs: tensor([[-1]]) }).loss.item(), Math.exp(20));
    expect(policyLoss({ ...token, logprobs: tensor([[Number.NaN]]) }).loss.item()).toBeNaN();
  });

  test("micro-batches sum to the loss of the whole step, which is that of plain numbers", () => {
    fc.assert(
      fc.property(batches, fc.nat(4), ({ logprobs, oldLogprobs, rewards, responseMask }, cut) => {
        const totalTokens = countTrue(responseMask);
        const run = (from: number, to: number): number =>
          from >= to
            ? 0
            : policyLoss({
                logprobs: tensor(logprobs.slice(from, to)),
                oldLogprobs: tensor(oldLogprobs.slice(from, to)),
                advantages: tensor(rewards.slice(from, to)),
                responseMask: tensor(responseMask.slice(from, to)),
                clipRange: 0.2,
                totalTokens,
              }).loss.item();
        const rows = logprobs.length;
        const at = Math.min(cut, rows);
        const whole = run(0, rows);
        assertClose(run(0, at) + run(at, rows), whole, { rtol: 1e-4, atol: 1e-4 });
        assertClose(whole, slowPolicyLoss(logprobs, oldLogprobs, rewards, responseMask, 0.2) / totalTokens, { rtol: 1e-4, atol: 1e-4 });
      }),
      { numRuns: 60 },
    );
  });

  test("appending masked columns changes nothing", () => {
    fc.assert(
      fc.property(batches, fc.integer({ min: 1, max: 3 }), ({ logprobs, oldLogprobs, rewards, responseMask }, extra) => {
        const run = (columns: number): number[] => {
          const { loss, clipFraction, approxKl, ratioMax } = policyLoss({
            logprobs: tensor(append(logprobs, columns, Number.NaN)),
            oldLogprobs: tensor(append(oldLogprobs, columns, 0)),
            advantages: tensor(append(rewards, columns, 1)),
            responseMask: tensor(append(responseMask, columns, false)),
            clipRange: 0.2,
            totalTokens: countTrue(responseMask),
          });
          return [loss.item(), clipFraction.item(), approxKl.item(), ratioMax.item()];
        };
        assertClose(run(extra), run(0), { atol: 1e-5 });
      }),
      { numRuns: 40 },
    );
  });

  test("only the loss has a gradient; inputs stay as they are and may be bfloat16", () => {
    const logprobs = tensor([[-1, -2]], { dtype: "bfloat16" }).requiresGrad_();
    const { loss, clipFraction, approxKl, ratioMax } = policyLoss({
      ...step,
      logprobs,
      oldLogprobs: tensor([[-1, -2]]),
      advantages: tensor([[1, 1]]),
      responseMask: tensor([[1, 1]]),
    });
    expect([loss, clipFraction, approxKl, ratioMax].map((x) => [x.dtype, x.requiresGrad])).toEqual([
      ["float32", true],
      ["float32", false],
      ["float32", false],
      ["float32", false],
    ]);
    expect([loss.item(), approxKl.item(), ratioMax.item()]).toEqual([-2, 0, 0]);
    expect(logprobs.toArray()).toEqual([[-1, -2]]);
  });

  test("names the operator and both shapes when the inputs do not fit", () => {
    expect(() =>
      policyLoss({
        ...step,
        logprobs: tensor([[-1, -2, -3]]),
        oldLogprobs: tensor([[-1, -1]]),
        advantages: tensor([[1, 1, 1]]),
        responseMask: tensor([[1, 1, 1]]),
      }),
    ).toThrow(
      expect.objectContaining({
        name: "NativeError",
        code: "E_NATIVE",
        message: expect.stringMatching(/^sub\(float32\[1, 3\], float32\[1, 2\]\): The size of tensor a \(3\)/),
      }),
    );
  });
});

describe("valueLoss", () => {
  const shared = {
    values: tensor(peers.newValues),
    oldValues: tensor(peers.values),
    responseMask: tensor(peers.responseMask),
    valueClipRange: 0.2,
    totalTokens: 7,
  };
  const returns = tensor([
    [1.0899251, 1.1315, 1.17, 0],
    [-1.6504074, -1.76885, -1.883, -2.04],
  ]);

  test("on paper: the clip keeps the larger error", () => {
    // value 1 from 0, target 1: error 0 unclipped, (0.2 - 1)^2 = 0.64 clipped; value -1, target 1: 4 against (-0.2 - 1)^2 = 1.44
    const { loss, clipFraction } = valueLoss({
      values: tensor([[1, -1]]),
      oldValues: tensor([[0, 0]]),
      returns: tensor([[1, 1]]),
      responseMask: tensor([[1, 1]]),
      valueClipRange: 0.2,
      totalTokens: 2,
    });
    assertClose(loss.item(), (0.5 * (0.64 + 4)) / 2);
    expect(clipFraction.item()).toBe(0.5);
  });

  test("equals OpenRLHF and verl, with and without clipping", () => {
    const { loss, clipFraction } = valueLoss({ ...shared, returns });
    assertClose(loss.item(), 1.6999762, { rtol: 1e-6 });
    assertClose(clipFraction.item(), 0.2857143);
    assertClose(valueLoss({ ...shared, returns, valueClipRange: Number.POSITIVE_INFINITY }).loss.item(), 1.6453964, { rtol: 1e-6 });
  });

  test("equals DeepSpeed-Chat, whose own micro-batch is the whole step", () => {
    const originalReturns = tensor([
      [1.0357749, 1.0745, 1.11, 1.2],
      [-1.6504074, -1.76885, -1.883, -2.04],
    ]);
    assertClose(valueLoss({ ...shared, returns: originalReturns }).loss.item(), 1.6813906, { rtol: 1e-6 });
  });

  test.each([
    { mask: [[1, 1, 0, 0]], returns: [[1.83055, 1.969, 2.02, 0]], totalTokens: 2, expected: 1.389726 },
    { mask: [[1, 1, 1, 1]], returns: [[4.318291, 4.587675, 4.7765, 4.97]], totalTokens: 4, expected: 9.056623 },
  ])("equals the original's worked example over $totalTokens tokens", ({ mask, returns, totalTokens, expected }) => {
    const { loss } = valueLoss({
      values: tensor([[0.9, -0.1, 0.4, 0.7]]),
      oldValues: tensor([[0.5, -0.2, 0.4, 0.7]]),
      returns: tensor(returns),
      responseMask: tensor(mask),
      valueClipRange: 0.2,
      totalTokens,
    });
    assertClose(loss.item(), expected, { rtol: 1e-6 });
  });

  test.each(original.ppo.map((c, i) => ({ i, c })))("equals DeepSpeed-Chat's own function, case $i", ({ c }) => {
    const { loss } = valueLoss({
      values: tensor(c.newValues),
      oldValues: tensor(c.values),
      returns: tensor(c.returns),
      responseMask: tensor(c.responseMask),
      valueClipRange: c.valueClipRange,
      totalTokens: countTrue(c.responseMask),
    });
    assertClose(loss.item(), c.valueLoss);
  });

  test("its gradient equals finite differences of the formula in float64, and is 0 at NaN padding", () => {
    const [values, old, target] = [[[0.5, -0.1, 0.05, 0.6]], [[0, 0, 0, 0]], [[1, 1, 1, -1]]];
    const mask = [[true, true, true, true]];
    const leaf = tensor(append(values, 1, Number.NaN)).requiresGrad_();
    valueLoss({
      values: leaf,
      oldValues: tensor(append(old, 1, Number.NaN)),
      returns: tensor(append(target, 1, Number.NaN)),
      responseMask: tensor(append(mask, 1, false)),
      valueClipRange: 0.2,
      totalTokens: 4,
    }).loss.backward();
    assertClose(
      leaf.grad ?? [],
      append(
        finiteDifferences(values, (at) => slowValueLoss(at, old, target, mask, 0.2) / 4),
        1,
        0,
      ),
      { rtol: 1e-4, atol: 1e-6 },
    );
  });

  test("micro-batches sum to the loss of the whole step, which is that of plain numbers", () => {
    fc.assert(
      fc.property(batches, fc.nat(4), ({ values, oldValues, rewards, responseMask }, cut) => {
        const totalTokens = countTrue(responseMask);
        const run = (from: number, to: number): number =>
          from >= to
            ? 0
            : valueLoss({
                values: tensor(values.slice(from, to)),
                oldValues: tensor(oldValues.slice(from, to)),
                returns: tensor(rewards.slice(from, to)),
                responseMask: tensor(responseMask.slice(from, to)),
                valueClipRange: 0.2,
                totalTokens,
              }).loss.item();
        const at = Math.min(cut, values.length);
        const whole = run(0, values.length);
        assertClose(run(0, at) + run(at, values.length), whole, { rtol: 1e-5, atol: 1e-5 });
        assertClose(whole, slowValueLoss(values, oldValues, rewards, responseMask, 0.2) / totalTokens, { rtol: 1e-5, atol: 1e-5 });
      }),
      { numRuns: 60 },
    );
  });
});
