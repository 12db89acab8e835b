import { moments } from "../metrics/moments.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Parity } from "./parity.ts";
import type { Prompt, Rollout } from "./records.ts";
import { tokensOf } from "./reward-reader.ts";
import type { RlhfEngine } from "./rlhf-engine.ts";
import { rollOut } from "./rollout.ts";
import { policyScores } from "./scoring.ts";

/** How the actor is looked at on held-out prompts. */
export interface EvaluateOptions {
  maxNewTokens: number;
  minNewTokens: number;
  temperature: number;
  microBatchTokens: number;
  parity?: Parity | undefined;
  seed: number;
  stopRequested?: (() => boolean) | undefined;
}

/** One sampled answer to each held-out prompt; the draws are the same each time, so that two evaluations pair up. */
export interface PolicyEvaluation {
  readonly rollout: Rollout;
  readonly texts: readonly string[];
  /** The reward model's score of each answer, without penalties. */
  readonly scores: readonly number[];
  /** KL of each answer against the reference, in nats: sum of log-ratios over its tokens. */
  readonly kl: readonly number[];
}

/** Requests of evaluations lie far behind those of training, so that they never share draws. */
const EVALUATION_PROMPTS = 2 ** 31;

/** Answers the prompts with the actor as it is, and scores the answers. */
export async function evaluatePolicy(rlhf: RlhfEngine, prompts: readonly Prompt[], options: EvaluateOptions): Promise<PolicyEvaluation> {
  const { tokenizer, evaluator } = rlhf;
  const rollout = rollOut(evaluator, prompts.map(tokensOf), {
    ...options, samplesPerPrompt: 1, endToken: tokenizer.endOfTurnTokenId, promptsBefore: EVALUATION_PROMPTS,
  });
  const models = { actor: rlhf.actor.model, reference: rlhf.reference, rewardModel: rlhf.rewardModel };
  const rewardRows = await rlhf.rewardReader?.rows(prompts, rollout, options.parity);
  const scored = policyScores(models, rollout, { ...options, rolloutWeights: "same", rewardRows });
  const kl = noGrad(() => scored.oldLogprobs.sub(scored.referenceLogprobs).where(rollout.responseMask, 0).sum([1]).numbers());
  return { rollout, texts: rollout.responses.map((response) => tokenizer.decode([...response])), scores: scored.scores.numbers(), kl };
}

/** A mean, and the standard error of it over independent values. */
export interface MeanWithError {
  mean: number;
  standardError: number;
}

/** The mean of independent values with its standard error; NaN for none, error 0 for one. */
export function meanWithError(values: readonly number[]): MeanWithError {
  const { mean, variance } = moments(values);
  return { mean, standardError: Math.sqrt(variance / values.length) };
}
