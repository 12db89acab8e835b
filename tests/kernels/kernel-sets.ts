import { afterAll, beforeAll, describe, expect } from "vitest";
import { kernelSet, kernelSets, useKernels } from "../../src/tensor/system.ts";

/** The sets that x86-64 processors may have; others have "plain" alone. */
export const everySet = ["avx512", "avx2", "plain"];

/** Declares the tests of `body` once for each instruction set; those of a set that this processor lacks are skipped. */
export function describeKernels(what: string, body: () => void): void {
  for (const set of everySet) {
    const has = kernelSets().includes(set);
    describe.skipIf(!has)(`${what}, ${set}${has ? "" : " (skipped: this processor lacks it)"}:`, () => {
      beforeAll(() => {
        useKernels(set);
        expect(kernelSet()).toBe(set);
      });
      afterAll(() => useKernels(kernelSets()[0] ?? "plain"));
      body();
    });
  }
}

/** `make` called once for each input: what is expected is the same for every set. */
export function remembered<Input, Result>(make: (input: Input) => Result): (input: Input) => Result {
  const known = new Map<string, Result>();
  return (input) => {
    const key = JSON.stringify(input), result = known.get(key) ?? make(input);
    known.set(key, result);
    return result;
  };
}
