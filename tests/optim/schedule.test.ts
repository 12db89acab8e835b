import { describe, expect, test } from "vitest";
import { type ScheduleOptions, scheduleFactor } from "../../src/optim/schedule.ts";
import { assertClose } from "../assert-close.ts";

const factors = (options: ScheduleOptions) => Array.from({ length: options.totalSteps }, (_, step) => scheduleFactor(step, options));

describe("scheduleFactor", () => {
  test.each<[ScheduleOptions["schedule"], number[]]>([
    // warm-up over 2 steps: 1/3, 2/3, then progress 0, 1/4, 2/4, 3/4
    ["constant", [1 / 3, 2 / 3, 1, 1, 1, 1]],
    ["linear", [1 / 3, 2 / 3, 1, 0.75, 0.5, 0.25]],
    // (1 + cos(pi/4)) / 2 = 0.853553, (1 + cos(pi/2)) / 2 = 0.5, (1 + cos(3pi/4)) / 2 = 0.146447
    ["cosine", [1 / 3, 2 / 3, 1, 0.8535534, 0.5, 0.1464466]],
  ])("%s warms up and then goes its way", (schedule, expected) => {
    assertClose(factors({ schedule, warmupSteps: 2, totalSteps: 6 }), expected);
  });

  test("without warm-up begins at the peak", () => {
    assertClose(factors({ schedule: "linear", warmupSteps: 0, totalSteps: 4 }), [1, 0.75, 0.5, 0.25]);
  });

  test("never wastes a step at rate 0, and stays at the end beyond the last step", () => {
    for (const schedule of ["constant", "linear", "cosine"] as const) {
      expect(Math.min(...factors({ schedule, warmupSteps: 3, totalSteps: 10 }))).toBeGreaterThan(0);
    }
    expect(scheduleFactor(12, { schedule: "linear", warmupSteps: 0, totalSteps: 10 })).toBe(0);
    expect(scheduleFactor(12, { schedule: "constant", warmupSteps: 0, totalSteps: 10 })).toBe(1);
  });

  test("warm-up longer than the run only rises", () => {
    assertClose(factors({ schedule: "cosine", warmupSteps: 9, totalSteps: 3 }), [0.1, 0.2, 0.3]);
  });
});
