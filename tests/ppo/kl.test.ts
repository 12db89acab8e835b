import { describe, expect, test } from "vitest";
import { AdaptiveKl, klStatistics } from "../../src/ppo/kl.ts";
import { tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";
import { peers } from "./goldens.ts";

describe("klStatistics", () => {
  test("on the tensors whose k1 and k3 OpenRLHF and verl give token by token", () => {
    // k1 .3 -.3 .8 (0) / -.15 .6 -.7 .45; k3 .0408182 .0498588 .249329 (0) / .0118342 .1488116 .3137527 .0876281
    const { perSequence, perToken, k3, negativeFraction } = klStatistics({
      logprobs: tensor(peers.newLogprobs),
      referenceLogprobs: tensor(peers.referenceLogprobs),
      responseMask: tensor(peers.responseMask),
    });
    assertClose(perSequence.item(), (0.8 + 0.2) / 2, { rtol: 1e-6 });
    assertClose(perToken.item(), (0.8 + 0.2) / 7, { rtol: 1e-6 });
    assertClose(k3.item(), (0.0408182 + 0.0498588 + 0.249329 + 0.0118342 + 0.1488116 + 0.3137527 + 0.0876281) / 7, { rtol: 1e-6 });
    assertClose(negativeFraction.item(), 3 / 7);
  });

  test("NaN behind the response stays out, and nothing carries a gradient", () => {
    const { perSequence, perToken, k3, negativeFraction } = klStatistics({
      logprobs: tensor([[-1, -2, Number.NaN]]).requiresGrad_(),
      referenceLogprobs: tensor([[-1.5, -1, 0]]),
      responseMask: tensor([[1, 1, 0]]),
    });
    // k1 0.5, -1; k3 e^-0.5 - 0.5 and e - 2
    assertClose([perSequence.item(), perToken.item(), negativeFraction.item()], [-0.5, -0.25, 0.5]);
    assertClose(k3.item(), (Math.exp(-0.5) - 0.5 + Math.E - 2) / 2);
    expect([perSequence, perToken, k3, negativeFraction].some((x) => x.requiresGrad)).toBe(false);
  });
});

describe("AdaptiveKl", () => {
  test("equals OpenRLHF's and verl's controller over four rollouts", () => {
    const controller = new AdaptiveKl({ klCoef: 0.2, target: 6, horizon: 10_000 });
    const path = [12, 6.6, 3, 0.1].map((kl) => {
      controller.update(kl, 256);
      return controller.klCoef;
    });
    assertClose(path, [0.201024, 0.2015386, 0.2005067, 0.1994801], { rtol: 1e-6 });
  });
});
