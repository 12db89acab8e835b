import type { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { cat } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { gradientOf } from "./adamw.ts";

/** Squares summed in one go: of 28 million in float32 libtorch's sum makes a norm 0.16% short, of parts one that is right to 1e-7. */
const PART = 2 ** 14;

/** 2-norm of the gradients of all blocks together. */
export function gradientNorm(blocks: readonly ParameterBlock[]): number {
  return noGrad(() => tidy(() => cat(blocks.flatMap((block) => normsOf(gradientOf(block)))).norm().item()));
}

/** Norms of the parts of a flat tensor. */
function normsOf(flat: Tensor): Tensor[] {
  const whole = flat.size - (flat.size % PART);
  return [flat.slice(0, 0, whole).reshape([-1, PART]).norm(1), flat.slice(0, whole).norm().reshape([1])];
}

/**
 * Scales the gradients of all blocks down so that their common 2-norm is at most `maxNorm` (arXiv:1211.5063, algorithm 1). Where the
 * norm is not finite they stay as they are, for the caller to look at.
 *
 * @returns the norm before
 */
export function clipGradients(blocks: readonly ParameterBlock[], maxNorm: number): number {
  const norm = gradientNorm(blocks);
  if (norm > maxNorm && Number.isFinite(norm)) {
    noGrad(() => {
      for (const block of blocks) gradientOf(block).mul_(maxNorm / norm);
    });
  }
  return norm;
}
