import type { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { stack } from "../tensor/create.ts";
import { gradientOf } from "./adamw.ts";

/** 2-norm of the gradients of all blocks together. */
export function gradientNorm(blocks: readonly ParameterBlock[]): number {
  return noGrad(() => stack(blocks.map((block) => gradientOf(block).norm())).norm().item());
}

/**
 * Scales the gradients of all blocks down so that their common 2-norm is at most `maxNorm` (arXiv:1211.5063, algorithm 1).
 *
 * @returns the norm before
 */
export function clipGradients(blocks: readonly ParameterBlock[], maxNorm: number): number {
  const norm = gradientNorm(blocks);
  if (norm > maxNorm) {
    noGrad(() => {
      for (const block of blocks) gradientOf(block).mul_(maxNorm / norm);
    });
  }
  return norm;
}
