import { describe, expect, test } from "vitest";
import { lastTokenLoss, pairwiseLoss } from "../../src/reward/pairwise-loss.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { original } from "../ppo/goldens.ts";

const parity = "deepspeed-chat";
/** -log sigmoid(x) in float64. */
const softplusOfMinus = (x: number): number => Math.log1p(Math.exp(-x));

describe("pairwiseLoss with parity", () => {
  test.each(original.rewardModel.map((c, i) => ({ i, c })))("equals DeepSpeed-Chat's own reward model, case $i", ({ c }) => {
    const { loss, chosenScores, rejectedScores } = pairwiseLoss({
      chosen: tensor(c.chosen),
      rejected: tensor(c.rejected),
      chosenRewards: tensor(c.chosenRewards),
      rejectedRewards: tensor(c.rejectedRewards),
      padId: c.padId,
      numPaddingAtBeginning: c.numPaddingAtBeginning,
      parity,
    });
    assertClose(loss.item(), c.loss);
    assertClose(chosenScores, c.chosenScores);
    assertClose(rejectedScores, c.rejectedScores);
  });

  const worked = {
    chosenRewards: tensor([[0.1, 0.2, 0.3, 0.9, 1.4, 0.5, 0.5]]),
    rejectedRewards: tensor([[0.1, 0.2, 0.3, 0.4, -0.6, 0.2, 0.2]]),
    parity,
  } as const;

  test.each([
    {
      pad: "2 that also opens the row",
      padId: 2,
      numPaddingAtBeginning: 1,
      chosen: [2, 5, 6, 7, 8, 2, 2],
      rejected: [2, 5, 6, 9, 2, 2, 2],
    },
    { pad: "0", padId: 0, numPaddingAtBeginning: 0, chosen: [1, 5, 6, 7, 8, 0, 0], rejected: [1, 5, 6, 9, 0, 0, 0] },
  ])("the original's worked example, pad $pad", ({ padId, numPaddingAtBeginning, chosen, rejected }) => {
    // tokens 3 and 4 count, the rejected row's 4 on padding: (softplus(-(0.9 - 0.4)) + softplus(-(1.4 + 0.6))) / 2
    const ids = { chosen: tensor([chosen], { dtype: "int64" }), rejected: tensor([rejected], { dtype: "int32" }) };
    const { loss, chosenScores, rejectedScores } = pairwiseLoss({ ...worked, ...ids, padId, numPaddingAtBeginning });
    assertClose(loss.item(), 0.300502, { rtol: 3e-6 });
    assertClose(loss.item(), (softplusOfMinus(0.5) + softplusOfMinus(2)) / 2);
    assertClose(
      [chosenScores, rejectedScores].map((x) => x.toArray()),
      [[1.4], [0.4]],
    );
  });

  const two = {
    chosen: tensor([
      [5, 6, 7, 8, 0, 0],
      [5, 6, 9, 9, 3, 0],
    ]),
    rejected: tensor([
      [5, 6, 4, 0, 0, 0],
      [5, 6, 9, 2, 0, 0],
    ]),
    chosenRewards: tensor([
      [0.1, 0.2, 0.9, 1.4, 0.3, 0.3],
      [0, -0.2, 0.5, 0.1, 0.8, 0.2],
    ]),
    rejectedRewards: tensor([
      [0.1, 0.2, -0.3, 0.6, 0.6, 0.6],
      [0, -0.2, 0.5, -0.4, 0.7, 0.7],
    ]),
    padId: 0,
    numPaddingAtBeginning: 0,
  };

  test("equals the original on two pairs of unequal lengths", () => {
    const { loss, chosenScores, rejectedScores } = pairwiseLoss({ ...two, parity });
    assertClose(loss.item(), 0.4382142, { rtol: 1e-6 });
    assertClose(
      [chosenScores, rejectedScores].map((x) => x.toArray()),
      [
        [1.4, 0.8],
        [-0.3, -0.4],
      ],
    );
  });

  test("one pair at a time with the total of the step sums to the same loss", () => {
    const rows = [0, 1].map((i) =>
      pairwiseLoss({
        ...two,
        parity,
        totalPairs: 2,
        chosen: two.chosen.slice(0, i, i + 1),
        rejected: two.rejected.slice(0, i, i + 1),
        chosenRewards: two.chosenRewards.slice(0, i, i + 1),
        rejectedRewards: two.rejectedRewards.slice(0, i, i + 1),
      }).loss.item(),
    );
    assertClose((rows[0] ?? 0) + (rows[1] ?? 0), 0.4382142, { rtol: 1e-6 });
  });

  test("a pair of equal rows contributes log 2", () => {
    const same = tensor([[5, 6, 7, 0]]);
    const rewards = tensor([[0.1, 0.2, 0.3, 0.4]]);
    const { loss, chosenScores, rejectedScores } = pairwiseLoss({
      chosen: same,
      rejected: same,
      chosenRewards: rewards,
      rejectedRewards: rewards,
      padId: 0,
      numPaddingAtBeginning: 0,
      parity,
    });
    assertClose(loss.item(), Math.LN2);
    assertClose(
      [chosenScores, rejectedScores].map((x) => x.toArray()),
      [[0.3], [0.3]],
    );
  });

  test("its gradient is spread over the compared tokens only; NaN elsewhere reaches nothing", () => {
    const chosenRewards = tensor([[Number.NaN, 0.2, 0.9, 1.4, Number.NaN, Number.NaN]]).requiresGrad_();
    const rejectedRewards = tensor([[0.1, Number.NaN, -0.3, 0.6, 0.6, Number.NaN]]).requiresGrad_();
    pairwiseLoss({
      ...two,
      chosen: two.chosen.slice(0, 0, 1),
      rejected: two.rejected.slice(0, 0, 1),
      chosenRewards,
      rejectedRewards,
      parity,
    }).loss.backward();
    // d/dx -log sigmoid(x) = -sigmoid(-x); tokens 2 and 3, x = 1.2 and 0.8, each with weight 1/2
    const slope = (x: number): number => -1 / (1 + Math.exp(x)) / 2;
    assertClose(chosenRewards.grad ?? [], [[0, 0, slope(1.2), slope(0.8), 0, 0]]);
    assertClose(rejectedRewards.grad ?? [], [[0, 0, -slope(1.2), -slope(0.8), 0, 0]]);
  });

  test("without parity the loss is that of the scores at the last tokens", () => {
    const { loss, chosenScores } = pairwiseLoss(two);
    assertClose(chosenScores, [1.4, 0.8]);
    assertClose(loss.item(), (softplusOfMinus(1.4 + 0.3) + softplusOfMinus(0.8 + 0.4)) / 2);
  });

  test("a row of padding alone has no last token", () => {
    const row = tensor([[0, 0]]);
    expect(() =>
      pairwiseLoss({ chosen: row, rejected: row, chosenRewards: row, rejectedRewards: row, padId: 0, numPaddingAtBeginning: 0 }),
    ).toThrow(
      expect.objectContaining({
        name: "NativeError",
        code: "E_NATIVE",
        message: expect.stringMatching(/^gather\(float32\[1, 2\].*index -1 is out of bounds/),
      }),
    );
  });
});

describe("lastTokenLoss", () => {
  const scores = { chosenScores: tensor([1, -0.5, 2]), rejectedScores: tensor([0.2, 0.3, 2]) };

  test("equals OpenRLHF, without and with a margin", () => {
    assertClose(lastTokenLoss(scores).item(), 0.7451162, { rtol: 1e-6 });
    assertClose(lastTokenLoss({ ...scores, margin: 0.5 }).item(), 1.0231469, { rtol: 1e-6 });
    assertClose(lastTokenLoss({ ...scores, margin: tensor([0.5, 0.5, 0.5]) }).item(), 1.0231469, { rtol: 1e-6 });
  });

  test("the centre term is the mean squared sum of both scores", () => {
    // sums 1.2, -0.2, 4: squares 1.44, 0.04, 16
    assertClose(lastTokenLoss({ ...scores, centerCoefficient: 0.01 }).item(), 0.7451162 + (0.01 * (1.44 + 0.04 + 16)) / 3, { rtol: 1e-6 });
  });

  test("parts of a step sum to the whole; far apart scores do not overflow", () => {
    const parts = [0, 1, 2].map((i) =>
      lastTokenLoss({
        chosenScores: scores.chosenScores.slice(0, i, i + 1),
        rejectedScores: scores.rejectedScores.slice(0, i, i + 1),
        totalPairs: 3,
      }).item(),
    );
    assertClose(
      parts.reduce((sum, x) => sum + x, 0),
      0.7451162,
      { rtol: 1e-6 },
    );
    assertClose(lastTokenLoss({ chosenScores: tensor([-500]), rejectedScores: tensor([500]) }).item(), 1000);
  });

  test("its gradient pushes the scores apart by the sigmoid of what is missing", () => {
    const chosenScores = tensor([1]).requiresGrad_();
    const rejectedScores = tensor([3]).requiresGrad_();
    lastTokenLoss({ chosenScores, rejectedScores }).backward();
    assertClose([chosenScores.grad?.item() ?? 0, rejectedScores.grad?.item() ?? 0], [-1 / (1 + Math.exp(-2)), 1 / (1 + Math.exp(-2))]);
  });
});
