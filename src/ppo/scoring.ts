import { microBatches } from "../engine/micro-batches.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import type { RewardModel } from "../model/reward-model.ts";
import { noGrad } from "../tensor/autograd.ts";
import { cat } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy, untracked } from "../tensor/tidy.ts";
import type { Parity } from "./parity.ts";
import type { Rollout, Scored } from "./records.ts";
import { type ForwardRows, joined, pickRows, responseLogprobs, responseValues } from "./response-forward.ts";

/** The four models that look at a rollout. */
export interface ScoringModels {
  readonly actor: CausalLM;
  readonly reference: CausalLM;
  readonly critic: RewardModel;
  readonly rewardModel: RewardModel;
}

/** How a rollout is scored. */
export interface ScoringOptions {
  temperature: number;
  microBatchTokens: number;
  /** Whether the actor itself has sampled, or a rounded copy, whose log-probabilities are not the actor's. */
  rolloutWeights: "same" | "int8";
  parity?: Parity | undefined;
  /** Prompts and answers as the reward model reads them, if it does not take the rollout's tokens. */
  rewardRows?: readonly (readonly number[])[] | undefined;
}

/**
 * Runs the four models over a rollout. The critic's forward over the first micro-batch of the first minibatch keeps its graph: the critic's
 * weights are still those when the update begins. It comes last, so that the graph lies beside nothing but what that step needs.
 *
 * @returns the scores, and that forward: [rows of the micro-batch, width] float32 with gradient
 */
export function score(
  models: ScoringModels, rollout: Rollout, { miniBatchSize, ...options }: ScoringOptions & { miniBatchSize: number },
): { scored: Scored; firstValues: Tensor } {
  const judged = policyScores(models, rollout, options), all = rollout.prompts.map((_, i) => i);
  const [rows = []] = cutRows(rollout, all.slice(0, miniBatchSize), options.microBatchTokens);
  const valuesOf = (forwardRows: ForwardRows) => responseValues(models.critic, forwardRows);
  const others = all.slice(rows.length);
  const rest = others.length > 0 ? [overRollout(rollout, options, valuesOf, others)] : [];
  const firstValues = untracked(() => valuesOf(pickRows(rollout, rows))); // a graph that is computed again needs its inputs until then
  return { scored: { ...rollout, ...judged, values: noGrad(() => cat([firstValues.detach(), ...rest])) }, firstValues };
}

/**
 * What actor, reference and reward model say of a rollout, without gradients: all that an evaluation looks at. The actor's
 * log-probabilities are those that it sampled with: generation has the bits of the training forward, and the first step of the update
 * asserts it.
 */
export function policyScores(
  { actor, reference, rewardModel }: Omit<ScoringModels, "critic">, rollout: Rollout, options: ScoringOptions,
): Pick<Scored, "oldLogprobs" | "referenceLogprobs" | "scores"> {
  return {
    oldLogprobs: options.rolloutWeights === "same"
      ? rollout.samplingLogprobs
      : overRollout(rollout, options, (rows) => responseLogprobs(actor, rows, options).logprobs),
    referenceLogprobs: overRollout(rollout, options, (rows) => responseLogprobs(reference, rows, options).logprobs),
    scores: options.rewardRows
      ? scoresOf(rewardModel, options.rewardRows, options.microBatchTokens)
      : overRollout(rollout, options, (rows) =>
        rewardModel.scoreRows(joined(rows).map((row) => ended(row, rollout.endToken, rewardModel, options.parity)))),
  };
}

/** The score of each row, [batch] float32. */
function scoresOf(rewardModel: RewardModel, rows: readonly (readonly number[])[], microBatchTokens: number): Tensor {
  const parts = microBatches(rows, (row) => row.length, microBatchTokens);
  return noGrad(() => cat(parts.map((part) => tidy(() => rewardModel.scoreRows(part)))));
}

/**
 * A sequence as the reward model reads it: with its end token, also where the answer was cut off. A reward model has seen whole
 * answers only, and what it says at a token in the middle means nothing (measured on the quickstart: 4.2 on average against 0.3
 * for finished answers, more than any penalty for a missing end takes back). DeepSpeed-Chat reads there, and so does the parity
 * mode.
 */
function ended(row: number[], endToken: number, { spec }: RewardModel, parity: Parity | undefined): number[] {
  return parity === "deepspeed-chat" || row.at(-1) === endToken || row.length >= spec.maxPositions ? row : [...row, endToken];
}

function overRollout(
  rollout: Rollout, { microBatchTokens }: ScoringOptions, forward: (rows: ForwardRows) => Tensor,
  rows: readonly number[] = rollout.prompts.map((_, i) => i),
): Tensor {
  const parts = cutRows(rollout, rows, microBatchTokens);
  return noGrad(() => cat(parts.map((part) => tidy(() => forward(pickRows(rollout, part))))));
}

/** Row numbers, cut into micro-batches. */
export function cutRows(
  { prompts, responses }: Pick<Rollout, "prompts" | "responses">, minibatch: readonly number[], microBatchTokens: number,
): number[][] {
  return microBatches(minibatch, (i) => (prompts[i]?.length ?? 0) + (responses[i]?.length ?? 0), microBatchTokens);
}
