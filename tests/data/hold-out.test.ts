import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { holdOut } from "../../src/data/hold-out.ts";
import { expectConfigError } from "./expect-config-error.ts";

const letters = [..."abcdefghij"];

describe("holdOut", () => {
  test("holds out the first of the shuffle, in the given order", () => {
    // The shuffle of seed 1234 begins 7 2 9: h, c, j.
    expect(holdOut(letters, 3, 1234)).toEqual({ train: [..."abdefgi"], heldOut: [..."chj"] });
    expect(holdOut(letters, 0.3, 1234)).toEqual(holdOut(letters, 3, 1234));
  });

  test("holds out at least one of a fraction, and nothing for 0", () => {
    expect(holdOut(letters, 0.01, 1234).heldOut).toEqual(["h"]);
    expect(holdOut(letters, 0, 1234)).toEqual({ train: letters, heldOut: [] });
  });

  test("divides without loss", () => {
    fc.assert(fc.property(fc.integer({ min: 2, max: 200 }), fc.double({ min: 0, max: 0.9, noNaN: true }), fc.nat(), (size, share, seed) => {
      const records = Array.from({ length: size }, (_, i) => i);
      if (Math.round(share * size) === size) return;
      const { train, heldOut } = holdOut(records, share, seed);
      expect([...train, ...heldOut].sort((a, b) => a - b)).toEqual(records);
    }));
  });

  test.each([-0.1, 1.5, NaN])("refuses a share of %d", async (share) => {
    await expectConfigError(
      () => holdOut(letters, share, 1),
      /^held-out share: expected a fraction in \[0, 1\) or a whole number of records, found/,
    );
  });

  test.each([10, 11, 0.99])("refuses a share of %d of ten records, which leaves none", async (share) => {
    await expectConfigError(
      () => holdOut(letters, share, 1),
      /^held-out share .*: expected fewer than the 10 records there are, found 1[01]; hold out less/,
    );
  });
});
