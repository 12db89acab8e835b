import { describe, expect, test } from "vitest";
import { type ExperienceOptions, shapeExperience } from "../../src/ppo/experience.ts";
import type { Scored } from "../../src/ppo/records.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

/** Two answers: three tokens that end by themselves, and two that were cut off. */
const scored: Scored = {
  prompts: [[5], [6]], responses: [[7, 8, 2], [9, 10]], finishReasons: ["eos", "length"], endToken: 2,
  responseMask: tensor([[true, true, true], [true, true, false]]),
  samplingLogprobs: tensor([[-1, -2, -1], [-1, -1, 0]]), oldLogprobs: tensor([[-1, -2, -1], [-1, -1, 0]]),
  referenceLogprobs: tensor([[-2, -2, -1], [-1, -3, 0]]),
  values: tensor([[0.5, 0, 1], [0, 1, 0]]), scores: tensor([3, -8]),
};
const options: ExperienceOptions = {
  klCoef: 0.1, rewardClip: 5, missingEosPenalty: 1, whitenRewards: false, whitenAdvantages: false, gamma: 1, gaeLambda: 0.5, parity: "none",
};

describe("shapeExperience", () => {
  test("clips the score, then takes the penalty of a cut answer off, and adds the KL penalty of each token", () => {
    // KL 1, 0, 0 and 0, 2; scores 3 and -5 - 1
    const { rewards } = shapeExperience(scored, options);
    assertClose(rewards, [[-0.1, 0, 3], [0, -0.2 - 6, 0]]);
  });

  test("estimates advantages and returns from these rewards and the critic's values", () => {
    // row 0: deltas -0.1 + 0 - 0.5, 0 + 1 - 0, 3 - 1; advantages backwards with factor 0.5: 2, 1 + 1 = 2, -0.6 + 1 = 0.4
    // row 1: deltas 0 + 1 - 0, -6.2 - 1; advantages -7.2, 1 - 3.6 = -2.6
    const { advantages, returns } = shapeExperience(scored, options);
    assertClose(advantages, [[0.4, 2, 2], [-2.6, -7.2, 0]]);
    assertClose(returns, [[0.9, 2, 3], [-2.6, -6.2, 0]]);
  });

  test("whitens advantages over the whole rollout but leaves the returns", () => {
    // mean of 0.4 2 2 -2.6 -7.2 is -1.08; squared deviations 2.1904 9.4864 9.4864 2.3104 37.4544 sum to 60.928, / 4 = 15.232
    const { advantages, returns } = shapeExperience(scored, { ...options, whitenAdvantages: true });
    const white = (x: number) => (x + 1.08) / Math.sqrt(15.232);
    assertClose(advantages, [[white(0.4), white(2), white(2)], [white(-2.6), white(-7.2), 0]]);
    assertClose(returns, [[0.9, 2, 3], [-2.6, -6.2, 0]]);
  });

  test("whitened rewards have variance 1 and keep their signs", () => {
    const { rewards } = shapeExperience(scored, { ...options, whitenRewards: true });
    const plain = [-0.1, 0, 3, 0, -6.2], mean = -0.66;
    const deviation = Math.sqrt(plain.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 4);
    assertClose(rewards, [[-0.1 / deviation, 0, 3 / deviation], [0, -6.2 / deviation, 0]]);
  });

  test("with parity puts the score into the slot behind an answer, where there is one", () => {
    const { rewards } = shapeExperience(scored, { ...options, missingEosPenalty: 0, parity: "deepspeed-chat" });
    assertClose(rewards, [[-0.1, 0, 3], [0, -0.2, -5]]); // row 0 is full
  });

  test("changes nothing of what was scored", () => {
    const experience = shapeExperience(scored, options);
    expect(experience).toMatchObject({ prompts: scored.prompts, responses: scored.responses, finishReasons: scored.finishReasons });
    for (const name of ["oldLogprobs", "values", "scores", "responseMask"] as const) expect(experience[name]).toBe(scored[name]);
    expect(scored.scores.numbers()).toEqual([3, -8]);
  });
});
