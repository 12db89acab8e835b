import { describe, expect, test } from "vitest";
import { missingEosPenalty, tokenRewards } from "../../src/ppo/token-rewards.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { original, peers } from "./goldens.ts";

const shared = {
  logprobs: tensor(peers.logprobs),
  referenceLogprobs: tensor(peers.referenceLogprobs),
  scores: tensor(peers.scores),
  responseMask: tensor(peers.responseMask),
  klCoef: 0.1,
  rewardClip: 5,
};

describe("tokenRewards", () => {
  test("equals OpenRLHF: the score stands on the last response token", () => {
    assertClose(
      tokenRewards(shared),
      [
        [-0.01, 0.01, 1.17, 0],
        [0.01, -0.01, 0.02, -2.04],
      ],
      { atol: 1e-6 },
    );
  });

  test("equals DeepSpeed-Chat with parity: the score stands one slot later where there is one", () => {
    assertClose(
      tokenRewards({ ...shared, parity: "deepspeed-chat" }),
      [
        [-0.01, 0.01, -0.03, 1.2],
        [0.01, -0.01, 0.02, -2.04],
      ],
      { atol: 1e-6 },
    );
  });

  test.each(original.ppo.map((c, i) => ({ i, c })))("equals DeepSpeed-Chat's own function, case $i", ({ c }) => {
    const rewards = tokenRewards({
      logprobs: tensor(c.logprobs),
      referenceLogprobs: tensor(c.referenceLogprobs),
      scores: tensor(c.scores),
      responseMask: tensor(c.responseMask),
      klCoef: c.klCoef,
      rewardClip: c.rewardClip,
      parity: "deepspeed-chat",
    });
    assertClose(rewards, c.rewards);
  });

  test("a score beyond the clip counts as the clip, on both sides; Infinity clips nothing", () => {
    const one = {
      ...shared,
      logprobs: tensor([[-1], [-1]]),
      referenceLogprobs: tensor([[-1], [-1]]),
      responseMask: tensor([[1], [1]]),
      scores: tensor([7.5, -6]),
    };
    assertClose(tokenRewards(one), [[5], [-5]]);
    assertClose(tokenRewards({ ...one, rewardClip: Number.POSITIVE_INFINITY }), [[7.5], [-6]]);
  });

  test("the score finds the last token behind a masked middle; a row without response gets nothing", () => {
    const rewards = tokenRewards({
      ...shared,
      scores: tensor([2, 3]),
      logprobs: tensor([
        [-1, -1, -1, -1],
        [-1, -1, -1, -1],
      ]),
      referenceLogprobs: tensor([
        [-1, -1, -1, -1],
        [-1, -1, -1, -1],
      ]),
      responseMask: tensor([
        [1, 0, 1, 0],
        [0, 0, 0, 0],
      ]),
    });
    expect(rewards.toArray()).toEqual([
      [0, 0, 2, 0],
      [0, 0, 0, 0],
    ]);
  });

  test("NaN behind the response does not reach a reward", () => {
    const dirty = peers.logprobs.map((row, i) => row.map((x, j) => (peers.responseMask[i]?.[j] ? x : Number.NaN)));
    expect(tokenRewards({ ...shared, logprobs: tensor(dirty) }).toArray()).toEqual(tokenRewards(shared).toArray());
  });

  test("takes a mask of any dtype, scores of [batch, 1], and gives float32 without gradient; inputs stay as they are", () => {
    const logprobs = tensor(peers.logprobs).requiresGrad_();
    const before = logprobs.toArray();
    const rewards = tokenRewards({
      ...shared,
      logprobs,
      scores: tensor(peers.scores, { dtype: "bfloat16" }).reshape([2, 1]),
      responseMask: tensor(peers.responseMask, { dtype: "int64" }),
    });
    expect(rewards.dtype).toBe("float32");
    expect(rewards.requiresGrad).toBe(false);
    expect(logprobs.toArray()).toEqual(before);
    assertClose(
      rewards,
      [
        [-0.01, 0.01, 1.17, 0],
        [0.01, -0.01, 0.02, -2.04],
      ],
      { rtol: 4e-3 },
    ); // 1.2 in bfloat16 is 1.203
  });

  test("scores of another batch are refused with operator and shapes", () => {
    expect(() => tokenRewards({ ...shared, scores: tensor([1, 2, 3]) })).toThrow(
      expect.objectContaining({
        name: "NativeError",
        code: "E_NATIVE",
        message: expect.stringMatching(/^expand\(float32\[3, 1\], \[2, 4\]\): /),
      }),
    );
  });
});

describe("missingEosPenalty", () => {
  test("takes the penalty off the scores of cut responses only", () => {
    assertClose(missingEosPenalty(tensor([2, -1, 0.5]), tensor([true, false, false]), 1), [2, -2, -0.5]);
    assertClose(missingEosPenalty(tensor([2, -1]), tensor([0, 1], { dtype: "int64" }), 0.25), [1.75, -1]);
  });
});
