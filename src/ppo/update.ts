import { shuffleIndices } from "../data/shuffle.ts";
import type { TrainEngine } from "../engine/train-engine.ts";
import { TrainingError } from "../errors.ts";
import { Meter } from "../metrics/meter.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import type { RewardModel } from "../model/reward-model.ts";
import { indices } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { policyLoss, valueLoss } from "./losses.ts";
import type { Experience } from "./records.ts";
import { pickRows, responseLogprobs, responseValues } from "./response-forward.ts";
import { importanceWeights } from "./sampling-gap.ts";
import { cutRows } from "./scoring.ts";

/** On the first minibatch of a rollout the actor is the one that was scored, so every ratio is 1. */
const MAX_FIRST_RATIO_ERROR = 1e-5;

/** How actor and critic learn from one rollout. */
export interface UpdateOptions {
  miniBatchSize: number;
  microBatchTokens: number;
  ppoEpochs: number;
  clipRange: number;
  valueClipRange: number;
  temperature: number;
  /** With "int8" another policy has sampled, and tokens are weighted for it. */
  rolloutWeights: "same" | "int8";
  /** Largest such weight. */
  importanceCap: number;
  /** Ends the passes over a rollout when the approximate KL of a minibatch exceeds it, in nats per token. */
  targetKl?: number | undefined;
  /** Of the order of minibatches from the second pass on. */
  seed: number;
  actorLearningRate: number;
  criticLearningRate: number;
  /** Of adapters, if it is another one. */
  actorLoraLearningRate?: number | undefined;
  criticLoraLearningRate?: number | undefined;
  /** False while only the critic learns. */
  updatesActor: boolean;
}

/** Means over the minibatches of an update, weighted by their response tokens. */
export type UpdateMetrics = Readonly<Record<string, number>>;

/**
 * PPO's passes over one rollout: for each minibatch one optimizer step of the critic, then one of the actor.
 *
 * @param firstValues the critic's forward over the first micro-batch, if it has been run already with the critic's weights of now; used up
 * @throws {TrainingError} when a loss or a gradient is not finite, or the actor is not the one that the rollout was scored with
 */
export function update(
  actor: TrainEngine<CausalLM>, critic: TrainEngine<RewardModel>, experience: Experience, options: UpdateOptions, firstValues?: Tensor,
): UpdateMetrics {
  const meter = new Meter();
  const rows = experience.prompts.map((_, i) => i);
  let ratioMax = 0, passes = 0;
  for (let epoch = 0; epoch < options.ppoEpochs; epoch++) {
    // The first pass keeps the rollout's order.
    const order = epoch === 0 ? rows : Array.from(shuffleIndices((options.seed + epoch) >>> 0, rows.length));
    let isOverTarget = false;
    for (let start = 0; start < order.length; start += options.miniBatchSize) {
      const minibatch = order.slice(start, start + options.miniBatchSize);
      const step = stepOn(minibatch, actor, critic, experience, options, epoch === 0 && start === 0 ? firstValues : undefined);
      if (epoch === 0 && start === 0) checkFirstRatio(step.ratioMax);
      ratioMax = Math.max(ratioMax, step.ratioMax);
      for (const [name, value] of Object.entries(step.means)) meter.add(name, value, step.tokens);
      isOverTarget = options.targetKl !== undefined && (step.means.approxKl ?? 0) > options.targetKl;
      if (isOverTarget) break;
    }
    passes++;
    if (isOverTarget) break;
  }
  return { ...meter.means(), ratioMax, passes, actorSkippedSteps: actor.skippedSteps, criticSkippedSteps: critic.skippedSteps };
}

interface StepResult {
  means: Record<string, number>;
  ratioMax: number;
  tokens: number;
}

function stepOn(
  minibatch: readonly number[], actor: TrainEngine<CausalLM>, critic: TrainEngine<RewardModel>, experience: Experience,
  options: UpdateOptions, firstValues: Tensor | undefined,
): StepResult {
  const totalTokens = minibatch.reduce((sum, i) => sum + (experience.responses[i]?.length ?? 0), 0);
  const parts = cutRows(experience, minibatch, options.microBatchTokens);
  const sums = { policyLoss: 0, valueLoss: 0, clipFraction: 0, valueClipFraction: 0, approxKl: 0, entropy: 0 };
  let ratioMax = 0;
  const weights = options.rolloutWeights === "int8" ? importanceWeights(experience, options.importanceCap) : undefined;
  for (const part of parts) {
    tidy(() => {
      const forward = () => responseValues(critic.model, pickRows(experience, part));
      const value = valueLoss({
        values: (part === parts[0] && firstValues) || forward(),
        oldValues: pick(experience, "values", part), returns: pick(experience, "returns", part),
        responseMask: pick(experience, "responseMask", part), valueClipRange: options.valueClipRange, totalTokens,
      });
      sums.valueLoss += critic.backward(value.loss, forward);
      sums.valueClipFraction += value.clipFraction.item();
    });
  }
  firstValues?.dispose();
  const criticGradientNorm = critic.step(options.criticLearningRate, options.criticLoraLearningRate);
  for (const part of parts) {
    tidy(() => {
      const rows = pickRows(experience, part), responseMask = pick(experience, "responseMask", part);
      const forward = () => responseLogprobs(actor.model, rows, { temperature: options.temperature, entropies: true });
      const { logprobs, entropies } = forward();
      const policy = policyLoss({
        logprobs, oldLogprobs: pick(experience, "oldLogprobs", part), advantages: pick(experience, "advantages", part), responseMask,
        importanceWeights: weights?.indexSelect(0, indices(part)), clipRange: options.clipRange, totalTokens,
      });
      if (options.updatesActor) sums.policyLoss += actor.backward(policy.loss, forward);
      sums.clipFraction += policy.clipFraction.item();
      sums.approxKl += policy.approxKl.item();
      sums.entropy += (entropies?.maskedSum(responseMask).item() ?? 0) / totalTokens;
      ratioMax = Math.max(ratioMax, policy.ratioMax.item());
    });
  }
  const actorGradientNorm = options.updatesActor ? actor.step(options.actorLearningRate, options.actorLoraLearningRate) : 0;
  return { means: { ...sums, actorGradientNorm, criticGradientNorm }, ratioMax, tokens: totalTokens };
}

function pick(experience: Experience, name: "responseMask" | "oldLogprobs" | "advantages" | "values" | "returns", rows: readonly number[]) {
  return experience[name].indexSelect(0, indices(rows));
}

/** @throws {TrainingError} when the training forward does not repeat the log-probabilities that the rollout was scored with */
function checkFirstRatio(ratioMax: number): void {
  if (ratioMax <= MAX_FIRST_RATIO_ERROR) return;
  throw new TrainingError(
    `PPO: on the first minibatch a ratio differs from 1 by ${ratioMax.toExponential(1)}, ` +
      `at most ${MAX_FIRST_RATIO_ERROR} can be rounding: ` +
      "old and new log-probabilities come from different weights or different computations; this is a bug, please report it",
  );
}
