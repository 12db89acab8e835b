import { plainRunner } from "../model/layer-runner.ts";
import type { PretrainedModel } from "../model/pretrained.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

// Looked for only when a loss or a gradient norm is not finite already, so a good step pays nothing for it.

/** Where numbers that are not finite were found. */
export interface BadTensors {
  /** Checkpoint name of the first one, in the order in which they are computed. */
  first: string;
  /** How many of how many tensors have such numbers. */
  count: number;
  total: number;
}

/** The model's parameters that are not finite, from the embedding on; undefined when all are finite. */
export function badParameters(model: PretrainedModel): BadTensors | undefined {
  return badOnes([...model.parameters()]);
}

/** The gradients that are not finite, from the loss back to the embedding; undefined when all are finite. */
export function badGradients(model: PretrainedModel): BadTensors | undefined {
  return badOnes([...model.gradients()].reverse());
}

/**
 * Runs a forward once more, without gradients, and looks at what every block gives.
 *
 * @returns name of the first block whose output is not finite, undefined when all are finite
 */
export function firstBadBlock(model: PretrainedModel, forward: () => unknown): string | undefined {
  const { runner } = model;
  let first: string | undefined;
  model.runner = {
    run(block, ofBlock, x) {
      const y = plainRunner.run(block, ofBlock, x);
      if (first === undefined && !allFinite(y)) first = block.name;
      return y;
    },
  };
  try {
    noGrad(() => tidy(() => void forward()));
  } finally {
    model.runner = runner;
  }
  return first;
}

function badOnes(tensors: readonly (readonly [string, Tensor])[]): BadTensors | undefined {
  const bad = noGrad(() => tensors.filter(([, tensor]) => !allFinite(tensor)));
  const [first] = bad;
  return first && { first: first[0], count: bad.length, total: tensors.length };
}

function allFinite(x: Tensor): boolean {
  return tidy(() => x.isFinite().all().item()) === 1;
}
