import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { estimateAdvantages } from "../../src/ppo/advantages.ts";
import { tokenRewards } from "../../src/ppo/token-rewards.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { append, batches } from "./arbitrary-batch.ts";
import { original, peers } from "./goldens.ts";

const settings = { gamma: 1, gaeLambda: 0.95, whiten: false };
const parity = "deepspeed-chat";
const peersRewards = {
  logprobs: tensor(peers.logprobs),
  referenceLogprobs: tensor(peers.referenceLogprobs),
  scores: tensor(peers.scores),
  klCoef: 0.1,
  rewardClip: 5,
};
const responseMask = tensor(peers.responseMask);
const values = tensor(peers.values);

/** GAE of one row as the textbook has it: the tokens that count are taken out, and put back afterwards. */
function textbook(rewards: number[], values: number[], mask: boolean[], gamma: number, lambda: number): number[] {
  const at = mask.flatMap((counts, t) => (counts ? [t] : []));
  const advantages = mask.map(() => 0);
  for (const [i, t] of at.entries()) {
    // A[i] = sum over k of (gamma * lambda)^k * delta[i + k], eq. 16: quadratic, but with no recursion to get wrong.
    for (let k = 0; i + k < at.length; k++) {
      const [now, next] = [at[i + k] ?? 0, at[i + k + 1]];
      const delta = (rewards[now] ?? 0) + gamma * (next === undefined ? 0 : (values[next] ?? 0)) - (values[now] ?? 0);
      advantages[t] = (advantages[t] ?? 0) + (gamma * lambda) ** k * delta;
    }
  }
  return advantages;
}

describe("estimateAdvantages", () => {
  test("on paper: two tokens, gamma 1, lambda 0.5", () => {
    // t = 1: delta = 1 - 0.25 = 0.75.  t = 0: delta = 0 + 0.25 - 0.5 = -0.25; A = -0.25 + 0.5 * 0.75 = 0.125
    const { advantages, returns } = estimateAdvantages({
      rewards: tensor([[0, 1]]),
      values: tensor([[0.5, 0.25]]),
      responseMask: tensor([[1, 1]]),
      gamma: 1,
      gaeLambda: 0.5,
      whiten: false,
    });
    assertClose(advantages, [[0.125, 0.75]]);
    assertClose(returns, [[0.625, 1]]);
  });

  test("equals OpenRLHF's raw advantages and verl's returns", () => {
    const { advantages, returns } = estimateAdvantages({
      ...settings,
      rewards: tokenRewards({ ...peersRewards, responseMask }),
      values,
      responseMask,
    });
    assertClose(
      advantages,
      [
        [0.789925, 0.6315, 0.97, 0],
        [-1.5504074, -2.1688499, -2.483, -2.74],
      ],
      { atol: 1e-6 },
    );
    assertClose(
      returns,
      [
        [1.0899251, 1.1315, 1.17, 0],
        [-1.6504074, -1.76885, -1.883, -2.04],
      ],
      { atol: 1e-6 },
    );
  });

  test("equals verl's whitened advantages, and is 0 where masked", () => {
    const { advantages, returns } = estimateAdvantages({
      ...settings,
      whiten: true,
      rewards: tokenRewards({ ...peersRewards, responseMask }),
      values,
      responseMask,
    });
    assertClose(
      advantages,
      [
        [1.0371027, 0.9418965, 1.1453197, 0],
        [-0.3693314, -0.7409874, -0.9297774, -1.0842228],
      ],
      { atol: 1e-6 },
    );
    assertClose(
      returns,
      [
        [1.0899251, 1.1315, 1.17, 0],
        [-1.6504074, -1.76885, -1.883, -2.04],
      ],
      { atol: 1e-6 },
    );
  });

  test("equals DeepSpeed-Chat with parity, the slot after the response included", () => {
    const rewards = tokenRewards({ ...peersRewards, responseMask, parity });
    const { advantages, returns } = estimateAdvantages({ ...settings, rewards, values, responseMask, parity });
    assertClose(
      advantages,
      [
        [0.7357749, 0.5745, 0.91, 1.2],
        [-1.5504074, -2.1688499, -2.483, -2.74],
      ],
      { atol: 1e-6 },
    );
    assertClose(
      returns,
      [
        [1.0357749, 1.0745, 1.11, 1.2],
        [-1.6504074, -1.76885, -1.883, -2.04],
      ],
      { atol: 1e-6 },
    );
  });

  test.each(original.ppo.map((c, i) => ({ i, c })))("equals DeepSpeed-Chat's own function, case $i", ({ c }) => {
    const { advantages, returns } = estimateAdvantages({
      rewards: tensor(c.rewards),
      values: tensor(c.values),
      responseMask: tensor(c.responseMask),
      gamma: c.gamma,
      gaeLambda: c.gaeLambda,
      whiten: false,
      parity,
    });
    assertClose(advantages, c.advantages, { atol: 1e-6 });
    assertClose(returns, c.returns, { atol: 1e-6 });
  });

  // The original's formulas on paper for a prompt and a response of 4 tokens; the columns are those of the response.
  test.each([
    {
      name: "ended by its third token, which is the pad token",
      responseTokens: 2,
      score: 2,
      expected: { rewards: [-0.03, 0.03, 2.02, 0], advantages: [1.33055, 2.169, 1.62, 0], returns: [1.83055, 1.969, 2.02, 0] },
    },
    {
      name: "cut at full length, score 7.5 clipped to 5",
      responseTokens: 4,
      score: 7.5,
      expected: {
        rewards: [-0.03, 0.03, 0.02, 4.97],
        advantages: [3.818291, 4.787675, 4.3765, 4.27],
        returns: [4.318291, 4.587675, 4.7765, 4.97],
      },
    },
  ])("equals the original's worked example: $name", ({ responseTokens, score, expected }) => {
    const mask = tensor([[0, 1, 2, 3].map((t) => t < responseTokens)]);
    const logprobs = tensor([[-0.2, -0.4, -1.1, -0.3]]);
    const referenceLogprobs = tensor([[-0.5, -0.1, -0.9, -0.6]]);
    const rewards = tokenRewards({
      logprobs,
      referenceLogprobs,
      scores: tensor([score]),
      responseMask: mask,
      klCoef: 0.1,
      rewardClip: 5,
      parity,
    });
    const { advantages, returns } = estimateAdvantages({
      ...settings,
      rewards,
      values: tensor([[0.5, -0.2, 0.4, 0.7]]),
      responseMask: mask,
      parity,
    });
    assertClose(rewards, [expected.rewards], { atol: 1e-6 });
    assertClose(advantages, [expected.advantages], { atol: 1e-6 });
    assertClose(returns, [expected.returns], { atol: 1e-6 });
  });

  test("equals the textbook sum on plain numbers in float64, whatever the mask", () => {
    fc.assert(
      fc.property(
        batches,
        fc.constantFrom(0, 0.5, 0.99, 1),
        fc.constantFrom(0, 0.9, 1),
        ({ rewards, values, responseMask }, gamma, gaeLambda) => {
          const expected = rewards.map((row, i) => textbook(row, values[i] ?? [], responseMask[i] ?? [], gamma, gaeLambda));
          const { advantages, returns } = estimateAdvantages({
            rewards: tensor(rewards),
            values: tensor(values),
            responseMask: tensor(responseMask),
            gamma,
            gaeLambda,
            whiten: false,
          });
          assertClose(advantages, expected, { atol: 2e-5 });
          assertClose(
            returns,
            expected.map((row, i) => row.map((a, t) => (responseMask[i]?.[t] ? a + (values[i]?.[t] ?? 0) : 0))),
            { atol: 2e-5 },
          );
        },
      ),
      { numRuns: 60 },
    );
  });

  test("appending masked columns changes nothing, not even as NaN", () => {
    fc.assert(
      fc.property(batches, fc.integer({ min: 1, max: 3 }), (batch, extra) => {
        const run = (rewards: number[][], values: number[][], mask: boolean[][]) =>
          estimateAdvantages({ ...settings, rewards: tensor(rewards), values: tensor(values), responseMask: tensor(mask) });
        const plain = run(batch.rewards, batch.values, batch.responseMask);
        const wider = run(
          append(batch.rewards, extra, Number.NaN),
          append(batch.values, extra, Number.NaN),
          append(batch.responseMask, extra, false),
        );
        expect(wider.advantages.toArray()).toEqual(append(plain.advantages.toArray() as number[][], extra, 0));
        expect(wider.returns.toArray()).toEqual(append(plain.returns.toArray() as number[][], extra, 0));
      }),
      { numRuns: 40 },
    );
  });

  test("values that require a gradient give advantages without one and stay as they are", () => {
    const withGrad = tensor(peers.values).requiresGrad_();
    const { advantages, returns } = estimateAdvantages({
      ...settings,
      rewards: tensor(peers.values),
      values: withGrad,
      responseMask,
      parity,
    });
    expect([advantages.requiresGrad, returns.requiresGrad]).toEqual([false, false]);
    expect(withGrad.toArray()).toEqual(tensor(peers.values).toArray());
  });
});
