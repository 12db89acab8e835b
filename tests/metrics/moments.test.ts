import { expect, test } from "vitest";
import { moments } from "../../src/metrics/moments.ts";

test("moments divides by the number of values for the mean and by one less for the variance", () => {
  // mean (1 + 3 + 8) / 3 = 4; squared deviations 9 + 1 + 16 = 26, over 2
  expect(moments([1, 3, 8])).toEqual({ mean: 4, variance: 13 });
});

test("moments gives one value the variance 0, and no values the mean NaN", () => {
  expect(moments([5])).toEqual({ mean: 5, variance: 0 });
  expect(moments([]).mean).toBeNaN();
});
