import { describe, expect, test } from "vitest";
import type { Scored } from "../../src/ppo/records.ts";
import { importanceWeights, samplingGap } from "../../src/ppo/sampling-gap.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";

/** Two answers, the second with one token; only what the gap is computed from. */
function scored(samplingLogprobs: number[][]): Scored {
  return {
    responseMask: tensor([[true, true], [true, false]]), oldLogprobs: tensor([[-1, -2], [-3, 0]]),
    samplingLogprobs: tensor(samplingLogprobs),
  } as Scored;
}

describe("samplingGap", () => {
  test("is the mean distance and the k3 estimate over response tokens", () => {
    // differences 0.1, -0.2, 0 (the fourth place is no token): mean 0.1; e^d - 1 - d: 0.0051709, 0.0187308, 0
    const { samplingGap: gap, samplingKl } = samplingGap(scored([[-1.1, -1.8], [-3, 5]]));
    assertClose(gap, 0.1, { atol: 1e-6 });
    assertClose(samplingKl, 0.0239017 / 3, { atol: 1e-6 });
  });

  test("refuses answers of another policy", () => {
    const error = failure(() => samplingGap(scored([[-2, -3], [-4, 0]])));
    expect(error).toMatchObject({ name: "TrainingError" });
    expect(error.message).toMatch(/KL 0\.718 nats per token, at most 0\.1 .* --rollout-weights int8/);
    expect(() => samplingGap(scored([[Number.NaN, -3], [-4, 0]]))).toThrow(/KL NaN/);
  });
});

test("importance weights are probability ratios, cut at the cap", () => {
  assertClose(importanceWeights(scored([[-1, -1], [-9, 0]]), 2), [[1, Math.exp(-1)], [2, 1]]);
});
