import { join } from "node:path";
import { CheckpointError, TrainingError } from "../errors.ts";
import { checkpointingRunner } from "../model/layer-runner.ts";
import type { PretrainedModel } from "../model/pretrained.ts";
import type { ParameterBlock } from "../nn/parameter-block.ts";
import { AdamW, type AdamWOptions } from "../optim/adamw.ts";
import { clipGradients } from "../optim/gradient-norm.ts";
import { noGrad } from "../tensor/autograd.ts";
import { full } from "../tensor/create.ts";
import { SafetensorsFile, writeSafetensors } from "../tensor/safetensors.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type BadTensors, badGradients, badParameters, firstBadBlock } from "./non-finite.ts";

/** What happens to a step whose loss or gradient is not finite. */
export type OnNonFinite = "stop" | "skip";

/** How a model is updated. */
export interface TrainEngineOptions extends AdamWOptions {
  /** Largest 2-norm of the gradient; Infinity never clips. */
  gradientClip: number;
  /** Default "stop": throw. With "skip" the step is not taken, and only the tenth of these in a row throws. */
  onNonFinite?: OnNonFinite;
  /** Whether the blocks are computed again going backward instead of keeping what they computed; default false. */
  gradientCheckpointing?: boolean;
  /** Whether the gradients take memory only from backward to step: for a model that waits while another one trains; default false. */
  releasesGradients?: boolean;
}

/** So many skipped steps in a row end the training: no batch of the data is to blame then. */
const MAX_SKIPPED_IN_A_ROW = 10;

/** The settings of the engine as every step's configuration names them. */
export interface EngineSettings {
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  weightDecay: number;
  gradientClip: number;
  onNonFinite: OnNonFinite;
  gradientCheckpointing: boolean;
}

/** A step's settings as the engine takes them. */
export function engineOptions(settings: EngineSettings): TrainEngineOptions {
  const { adamBeta1, adamBeta2, adamEpsilon, weightDecay, gradientClip, onNonFinite, gradientCheckpointing } = settings;
  return { beta1: adamBeta1, beta2: adamBeta2, epsilon: adamEpsilon, weightDecay, gradientClip, onNonFinite, gradientCheckpointing };
}

/** A model in training: gradients add up over micro-batches, `step` applies them. */
export class TrainEngine<Model extends PretrainedModel = PretrainedModel> {
  readonly model: Model;
  readonly #optimizer: AdamW;
  readonly #gradientClip: number;
  readonly #onNonFinite: OnNonFinite;
  readonly #releasesGradients: boolean;
  /** Why the step that is being made has to be skipped, if it has to. */
  #fault: string | undefined;
  #skippedSteps = 0;
  #skippedInARow = 0;

  constructor(model: Model, options: TrainEngineOptions) {
    const { gradientClip, onNonFinite = "stop", gradientCheckpointing = false, releasesGradients = false, ...adamw } = options;
    this.model = model;
    if (gradientCheckpointing) model.runner = checkpointingRunner;
    model.enableGradients();
    this.#optimizer = new AdamW(model.trainedBlocks, (block) => model.masterOf(block), adamw);
    if (!model.lora) model.releaseSource(); // else the frozen weights are saved in its precision
    this.#gradientClip = gradientClip;
    this.#onNonFinite = onNonFinite;
    this.#releasesGradients = releasesGradients;
    if (releasesGradients) model.releaseGradients();
  }

  /** Optimizer steps taken. */
  get numSteps(): number { return this.#optimizer.numSteps; }
  /** Steps that were skipped since a loss or a gradient was not finite. */
  get skippedSteps(): number { return this.#skippedSteps; }

  /**
   * Adds the gradient of one micro-batch's loss and returns the loss. Losses are sums divided by the count of the
   * whole optimizer step, so a split into micro-batches changes nothing. A loss that is not finite adds nothing when such steps
   * are skipped.
   *
   * @param forward computes the loss again: run when it is not finite, to name the first block that is to blame
   * @throws {TrainingError} when the loss is not finite and such steps are not skipped, or a parameter is not finite
   */
  backward(loss: Tensor, forward?: () => unknown): number {
    const value = loss.item();
    if (!Number.isFinite(value)) this.#refuseLoss(value, forward);
    else if (this.#fault === undefined) {
      if (this.#releasesGradients) this.model.enableGradients();
      loss.backward();
    }
    return value;
  }

  /**
   * Clips, updates the parameters and clears the gradients.
   *
   * @param loraLearningRate of the adapters, if it is another one
   * @returns the gradient's norm before clipping; NaN for a step that is skipped on account of its loss
   * @throws {TrainingError} when the gradient is not finite and such steps are not skipped, or the tenth in a row is; the
   *   parameters are then untouched
   */
  step(learningRate: number, loraLearningRate = learningRate): number {
    if (this.#fault !== undefined) return this.#skip(this.#fault, Number.NaN);
    const { trainedBlocks, lora } = this.model, adapters = new Set(lora?.blocks);
    const norm = clipGradients(trainedBlocks, this.#gradientClip);
    if (!Number.isFinite(norm)) {
      const fault = this.#faultOfGradient(norm);
      if (this.#onNonFinite === "stop") throw new TrainingError(fault);
      return this.#skip(fault, norm);
    }
    this.#optimizer.step(learningRate, (block) => (adapters.has(block) ? loraLearningRate : learningRate));
    lora?.merge();
    this.#clearGradients();
    this.#skippedInARow = 0;
    return norm;
  }

  #refuseLoss(value: number, forward: (() => unknown) | undefined): void {
    const bad = badParameters(this.model);
    const fault = `the loss became ${value} at step ${this.#stepNumber}: `;
    if (bad) {
      const remedy =
        this.numSteps === 0 ? "nothing is trained yet, so the model that training starts from is damaged" : "lower the learning rate";
      throw new TrainingError(`${fault}the parameter ${firstOf(bad)} is not finite; ${remedy}`); // every further step would be the same
    }
    const block = forward && firstBadBlock(this.model, forward);
    const allFinite = forward ? "the parameters and the blocks' outputs are finite" : "the parameters are finite";
    const place = block ? `the output of block "${block}" is the first that is not finite` : allFinite;
    const message = `${fault}${place}; ${this.#remedy}`;
    if (this.#onNonFinite === "stop") throw new TrainingError(message);
    this.#fault = message;
  }

  #faultOfGradient(norm: number): string {
    const bad = badGradients(this.model);
    const fault = `the gradient's norm became ${norm} at step ${this.#stepNumber}: `;
    const place = bad ? `on the way back from the loss that of ${firstOf(bad)} is the first that is not finite` : "its squares overflow";
    return `${fault}${place}; ${this.#remedy}`;
  }

  #clearGradients(): void {
    if (this.#releasesGradients) this.model.releaseGradients();
    else this.model.zeroGradients();
  }

  #skip(fault: string, norm: number): number {
    this.#skippedSteps++;
    this.#skippedInARow++;
    if (this.#skippedInARow === MAX_SKIPPED_IN_A_ROW) {
      throw new TrainingError(`${MAX_SKIPPED_IN_A_ROW} steps in a row could not be taken; the last one: ${fault}`);
    }
    this.#fault = undefined;
    this.#clearGradients();
    return norm;
  }

  get #remedy(): string { return `lower the learning rate${this.model.dtype === "float32" ? "" : ", or train in float32"}`; }
  /** Of the step that is being made, from 1, those that were skipped included. */
  get #stepNumber(): number { return this.numSteps + this.#skippedSteps + 1; }

  /**
   * Writes a self-contained folder; a checkpoint of higher precision than the model runs in gets the optimizer's float32 master. Adapters
   * are merged, and stand in the subfolder `adapter` besides.
   */
  async save(dir: string, options: { padTokenId?: number } = {}): Promise<void> {
    await this.model.save(dir, { ...options, flatOf: (block) => this.#masterOf(block) });
    if (this.model.lora) this.model.saveAdapter(join(dir, "adapter"));
  }

  /**
   * Writes what training goes on from, float32 masters and AdamW's moments, as safetensors: 12 bytes for each parameter that trains. A
   * gradient that was not stepped with is not part of it.
   */
  saveState(path: string): void {
    const tensors = [...this.#optimizer.stateTensors(), ["numSteps", full([1], this.numSteps)] as const];
    writeSafetensors(path, tensors.map(([name, tensor]) => ({ name, shape: tensor.shape, read: () => tensor.detach() })), "float32");
  }

  /**
   * Goes on from a state that an engine of the same kind of model has saved: the steps that follow are those of an uninterrupted training,
   * bit for bit.
   *
   * @throws {CheckpointError} when the file is damaged or belongs to another model
   */
  loadState(path: string): void {
    const file = new SafetensorsFile(path), expected = this.#optimizer.stateTensors();
    for (const [name, { shape }] of expected) {
      if (file.names().includes(name) && file.shape(name).join() === shape.join()) continue;
      throw new CheckpointError(`${path}: has no "${name}" of [${shape.join(", ")}]: it belongs to another model or to other adapters`);
    }
    this.#optimizer.restore((name) => file.read(name), file.read("numSteps").item());
    this.model.lora?.merge();
    this.#clearGradients();
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

function firstOf({ first, count, total }: BadTensors): string {
  return `"${first}" (${count} of ${total})`;
}
