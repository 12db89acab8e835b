import type { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { full, zeros } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";

const fusedAdamw = operator<undefined>("_fused_adamw_");

/** Settings of AdamW that stay the same during training. */
export interface AdamWOptions {
  /** Decay of the mean of gradients, in [0, 1). */
  beta1: number;
  /** Decay of the mean of squared gradients, in [0, 1). */
  beta2: number;
  epsilon: number;
  /** Decoupled decay of matrices; vectors never decay. */
  weightDecay: number;
}

/** What AdamW keeps of the part of one block that trains: [elements] float32 each. */
export interface BlockState {
  block: ParameterBlock;
  /** That part of the block's own buffer, in the model's dtype. */
  parameters: Tensor;
  /** The same in float32: `parameters` itself when the model runs in float32, else a copy that is rounded into it after each step. */
  master: Tensor;
  mean: Tensor;
  meanOfSquares: Tensor;
}

/**
 * Adam with decoupled weight decay (arXiv:1711.05101, algorithm 2), on flat blocks: a few large tensors a model.
 *
 *     m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
 *     w = w - lr weightDecay w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
 */
export class AdamW {
  readonly states: readonly BlockState[];
  readonly #options: AdamWOptions;
  #steps = 0;

  /** @param masterOf gives the float32 start of a block that runs in another dtype */
  constructor(blocks: readonly ParameterBlock[], masterOf: (block: ParameterBlock) => Tensor, options: AdamWOptions) {
    this.#options = options;
    this.states = blocks.map((block) => {
      const trained = (flat: Tensor) => (block.trainedFrom === 0 ? flat : noGrad(() => flat.slice(0, block.trainedFrom)));
      const parameters = trained(block.flat), { size } = parameters;
      const copy = () => (block.trainedFrom === 0 ? masterOf(block) : trained(masterOf(block)).clone()); // not a view: the rest is freed
      const master = parameters.dtype === "float32" ? parameters : copy();
      return { block, parameters, master, mean: zeros([size]), meanOfSquares: zeros([size]) };
    });
  }

  /** Optimizer steps taken. */
  get numSteps(): number { return this.#steps; }

  /** Everything that training goes on from, by names that hold for any optimizer over the same blocks. */
  stateTensors(): ReadonlyMap<string, Tensor> {
    return new Map(this.states.flatMap(({ block, master, mean, meanOfSquares }) =>
      Object.entries({ master, mean, meanOfSquares }).map(([what, tensor]) => [`${block.name}.${what}`, tensor])));
  }
  /** Goes on from `stateTensors` of an optimizer that had taken so many steps, parameters included. */
  restore(read: (name: string) => Tensor, numSteps: number): void {
    this.#steps = numSteps;
    noGrad(() => {
      for (const [name, tensor] of this.stateTensors()) tidy(() => void tensor.copy_(read(name)));
      for (const { parameters, master } of this.states) if (master !== parameters) parameters.copy_(master);
    });
  }

  /**
   * Moves the parameters along the blocks' gradients, which stay as they are.
   *
   * @param rateOf gives the learning rate of blocks that have one of their own
   */
  step(learningRate: number, rateOf: (block: ParameterBlock) => number = () => learningRate): void {
    this.#steps++;
    const { weightDecay } = this.#options;
    noGrad(() => tidy(() => {
      for (const rate of new Set(this.states.map(({ block }) => rateOf(block)))) {
        const states = this.states.filter(({ block }) => rateOf(block) === rate);
        this.#update(states, rate, weightDecay, ({ block }) => [0, block.decayEnd - block.trainedFrom]);
        this.#update(states, rate, 0, ({ block, parameters }) => [block.decayEnd - block.trainedFrom, parameters.size]);
      }
      for (const { parameters, master } of this.states) if (master !== parameters) parameters.copy_(master);
    }));
  }

  /** One fused call over the same range of every block. */
  #update(
    states: readonly BlockState[], learningRate: number, weightDecay: number, rangeOf: (state: BlockState) => [number, number],
  ): void {
    const { beta1, beta2, epsilon } = this.#options;
    const ranges = states.map((state) => ({ state, range: rangeOf(state) })).filter(({ range: [from, to] }) => to > from);
    if (ranges.length === 0) return; // a model may have no vectors at all
    const part = (pick: (state: BlockState) => Tensor) => ranges.map(({ state, range: [from, to] }) => pick(state).slice(0, from, to));
    const handles = (tensors: readonly Tensor[]) => tensors.map((tensor) => tensor.handle);
    fusedAdamw(
      handles(part((state) => state.master)), handles(part((state) => gradientOf(state.block))), handles(part((state) => state.mean)),
      handles(part((state) => state.meanOfSquares)), [], handles(ranges.map(() => full([], this.#steps))),
      learningRate, beta1, beta2, weightDecay, epsilon, false, false,
    );
  }
}

/** The block's flat gradient; a block without one does not belong into an optimizer. */
export function gradientOf(block: ParameterBlock): Tensor {
  if (!block.gradient) throw new Error(`internal: block "${block.name}" is trained but has no gradient`);
  return block.gradient;
}
