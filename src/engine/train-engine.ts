import { join } from "node:path";
import { TrainingError } from "../errors.ts";
import type { PretrainedModel } from "../model/pretrained.ts";
import { AdamW, type AdamWOptions } from "../optim/adamw.ts";
import { clipGradients } from "../optim/gradient-norm.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { ParameterBlock } from "../nn/parameter-block.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** How a model is updated. */
export interface TrainEngineOptions extends AdamWOptions {
  /** Largest 2-norm of the gradient; Infinity never clips. */
  gradientClip: number;
}

/** The settings of AdamW as every step's configuration names them. */
export interface AdamSettings {
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  weightDecay: number;
  gradientClip: number;
}

/** A step's settings as the engine takes them. */
export function adamOptions({ adamBeta1, adamBeta2, adamEpsilon, weightDecay, gradientClip }: AdamSettings): TrainEngineOptions {
  return { beta1: adamBeta1, beta2: adamBeta2, epsilon: adamEpsilon, weightDecay, gradientClip };
}

/** A model in training: gradients add up over micro-batches, `step` applies them. */
export class TrainEngine<Model extends PretrainedModel = PretrainedModel> {
  readonly model: Model;
  readonly #optimizer: AdamW;
  readonly #gradientClip: number;

  constructor(model: Model, { gradientClip, ...options }: TrainEngineOptions) {
    this.model = model;
    model.enableGradients();
    this.#optimizer = new AdamW(model.trainedBlocks, (block) => model.masterOf(block), options);
    if (!model.lora) model.releaseSource(); // else the frozen weights are saved in its precision
    this.#gradientClip = gradientClip;
  }

  /** Optimizer steps taken. */
  get numSteps(): number { return this.#optimizer.numSteps; }

  /**
   * Adds the gradient of one micro-batch's loss and returns the loss. Losses are sums divided by the count of the
   * whole optimizer step, so a split into micro-batches changes nothing.
   *
   * @throws {TrainingError} when the loss is not finite
   */
  backward(loss: Tensor): number {
    const value = loss.item();
    if (!Number.isFinite(value)) {
      const remedy =
        this.numSteps === 0 ? "nothing is trained yet, so the model that training starts from is damaged" : "lower the learning rate";
      throw new TrainingError(`the loss became ${value} at step ${this.numSteps + 1}; ${remedy}`);
    }
    loss.backward();
    return value;
  }

  /**
   * Clips, updates the parameters and clears the gradients.
   *
   * @param loraLearningRate of the adapters, if it is another one
   * @returns the gradient's norm before clipping
   * @throws {TrainingError} when the gradient is not finite; the parameters are then untouched
   */
  step(learningRate: number, loraLearningRate = learningRate): number {
    const { trainedBlocks, lora } = this.model, adapters = new Set(lora?.blocks);
    const norm = clipGradients(trainedBlocks, this.#gradientClip);
    if (!Number.isFinite(norm)) {
      throw new TrainingError(
        `the gradient's norm became ${norm} at step ${this.numSteps + 1}; lower the learning rate, or train in float32`,
      );
    }
    this.#optimizer.step(learningRate, (block) => (adapters.has(block) ? loraLearningRate : learningRate));
    lora?.merge();
    this.model.zeroGradients();
    return norm;
  }

  /**
   * Writes a self-contained folder; a checkpoint of higher precision than the model runs in gets the optimizer's float32 master. Adapters
   * are merged, and stand in the subfolder `adapter` besides.
   */
  async save(dir: string, options: { padTokenId?: number } = {}): Promise<void> {
    await this.model.save(dir, { ...options, flatOf: (block) => this.#masterOf(block) });
    if (this.model.lora) this.model.saveAdapter(join(dir, "adapter"));
  }

  /** The whole block, what trains of it from the optimizer's master and the rest from the checkpoint. */
  #masterOf(block: ParameterBlock): Tensor {
    const state = this.#optimizer.states.find((candidate) => candidate.block === block);
    if (state && block.trainedFrom === 0) return state.master;
    if (block.flat.dtype === "float32") return block.flat;
    const whole = this.model.masterOf(block);
    return state ? noGrad(() => { whole.slice(0, block.trainedFrom).copy_(state.master); return whole; }) : whole;
  }
}
