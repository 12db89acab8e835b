import { Generator, rand } from "../../src/tensor/create.ts";

/** What lengths to draw. */
export interface LengthDistribution {
  count: number;
  /** Of the distribution before it is cut. */
  mean: number;
  max: number;
  seed: number;
}

/** Lengths as if an end token came with probability 1 / mean at every token; longer ones are cut at `max`. */
export function geometricLengths({ count, mean, max, seed }: LengthDistribution): number[] {
  const uniforms = rand([count], new Generator(seed)).numbers();
  return uniforms.map((uniform) => Math.min(max, 1 + Math.floor(Math.log(1 - uniform) / Math.log(1 - 1 / mean))));
}
