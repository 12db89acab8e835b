import { describe, expect, test } from "vitest";
import { explainedVariance, scaleToUnitVariance, whiten } from "../../src/ppo/whiten.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

const x = tensor([[1, 3, 9]]);
const mask = tensor([[true, true, false]]);

describe("whiten", () => {
  test("centres and scales by the unbiased deviation of what the mask selects", () => {
    // mean 2, variance ((-1)^2 + 1^2) / 1 = 2: -1 / sqrt 2, 1 / sqrt 2
    assertClose(whiten(x, mask), [[-Math.SQRT1_2, Math.SQRT1_2, 0]]);
  });

  test("NaN under a false mask stays out, and equal values become 0 instead of NaN", () => {
    assertClose(whiten(tensor([[1, 3, Number.NaN]]), mask), [[-Math.SQRT1_2, Math.SQRT1_2, 0]]);
    assertClose(whiten(tensor([[4, 4, 4]]), mask), [[0, 0, 0]]);
  });

  test("one value has no variance", () => {
    expect(() => whiten(x, tensor([[0, 1, 0]]))).toThrow(RangeError);
    expect(() => whiten(x, tensor([[0, 1, 0]]))).toThrow("cannot take a variance: the mask selects 1 values, expected at least 2");
  });
});

describe("scaleToUnitVariance", () => {
  test("divides by the deviation and moves nothing to 0", () => {
    assertClose(scaleToUnitVariance(x, mask), [[Math.SQRT1_2, 3 * Math.SQRT1_2, 0]]);
  });
});

describe("explainedVariance", () => {
  test("is 1 for a perfect critic, 0 for a constant, and the share in between", () => {
    const returns = tensor([[1, 2, 3, 99]]);
    const responseMask = tensor([[1, 1, 1, 0]]);
    assertClose(explainedVariance({ values: returns, returns, responseMask }).item(), 1);
    assertClose(explainedVariance({ values: tensor([[7, 7, 7, 0]]), returns, responseMask }).item(), 0);
    // errors 0.5, 0, -0.5: variance 0.25; returns: variance 1
    assertClose(explainedVariance({ values: tensor([[0.5, 2, 3.5, Number.NaN]]), returns, responseMask }).item(), 0.75);
  });
});
