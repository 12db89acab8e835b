import type { ConfigOf } from "../config/fields.ts";
import { completeConfig } from "../config/resolve.ts";
import { TrainingError } from "../errors.ts";
import { moments } from "../metrics/moments.ts";
import { Stopwatch } from "../metrics/stopwatch.ts";
import { ppoFields, ppoRecipe, settingsAmong } from "./config.ts";
import { shapeExperience } from "./experience.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { AdaptiveKl, klStatistics } from "./kl.ts";
import type { Experience, Prompt } from "./records.ts";
import { tokensOf } from "./reward-reader.ts";
import type { RlhfEngine } from "./rlhf-engine.ts";
import { rollOut } from "./rollout.ts";
import { samplingGap } from "./sampling-gap.ts";
import { score } from "./scoring.ts";
import { update } from "./update.ts";
import { explainedVariance } from "./whiten.ts";

// All settings of `tschat ppo` but those that say where models, data and results are.
const {
  actor: _actor, rewardModel: _rewardModel, data: _data, evalData: _evalData, output: _output, dtype: _dtype, device: _device,
  actorAdapter: _actorAdapter,
  ...trainerFields
} = ppoFields;

/**
 * Settings of the trainer, by the names and with the defaults of `tschat ppo`, with parity those of its recipe. What concerns
 * optimizer, schedule and run has no effect here: `RlhfEngine.load` and the caller's loop see to it.
 */
export type PpoOptions = Partial<ConfigOf<typeof trainerFields>>;

/** What one call of `trainRlhf` reports. */
export interface TrainResult {
  /** Means over the update's minibatches. */
  readonly policyLoss: number;
  readonly valueLoss: number;
  /** Everything else that is logged of the iteration. */
  readonly metrics: Readonly<Record<string, number>>;
}

/** Factors of the peak learning rates for one iteration. */
export interface IterationSchedule {
  /** In [0, 1]; default 1. */
  learningRateFactor?: number;
  /** Default true. */
  updatesActor?: boolean;
}

/** PPO, one iteration at a time: prompts -> rollout -> scoring -> advantages -> update. */
export class PpoTrainer {
  readonly rlhf: RlhfEngine;
  readonly options: ConfigOf<typeof trainerFields>;
  readonly #adaptiveKl: AdaptiveKl | undefined;
  readonly #stopwatch = new Stopwatch();
  /** Forwards of the critic that its first step need not run again, and the steps it had taken. */
  readonly #firstValues = new WeakMap<Experience, { values: Tensor; steps: number }>();
  #promptsBefore = 0;
  #iterations = 0;

  /** @throws {ConfigError} for an unknown setting or a value out of range */
  constructor(rlhf: RlhfEngine, options: PpoOptions = {}) {
    this.rlhf = rlhf;
    this.options = completeConfig({ name: "ppo", fields: trainerFields, recipe: ppoRecipe }, settingsAmong(trainerFields, options));
    const { klCoef, klTarget, klHorizon } = this.options;
    this.#adaptiveKl = klTarget === undefined ? undefined : new AdaptiveKl({ klCoef, target: klTarget, horizon: klHorizon ?? 10_000 });
  }

  /** Weight of the KL penalty now. */
  get klCoef(): number { return this.#adaptiveKl?.klCoef ?? this.options.klCoef; }

  /**
   * Samples answers to the prompts, scores them and estimates advantages.
   *
   * @throws {GenerationStopped} when `stopRequested` says so
   * @throws {TrainingError} when a score is not finite
   * @throws {ConfigError} when the reward model reads text, and a prompt has no messages or its template refuses them
   */
  async generateExperience(prompts: readonly Prompt[], stopRequested?: () => boolean): Promise<Experience> {
    const { options, rlhf } = this;
    const stopRollout = this.#stopwatch.start("rollout");
    const rollout = rollOut(rlhf.generator, prompts.map(tokensOf), {
      ...options, endToken: rlhf.tokenizer.endOfTurnTokenId, promptsBefore: this.#promptsBefore, stopRequested,
    });
    stopRollout(sum(rollout.responses.map((response) => response.length)));
    this.#promptsBefore += prompts.length;
    const stopScoring = this.#stopwatch.start("scoring");
    const models = { actor: rlhf.actor.model, reference: rlhf.reference, critic: rlhf.critic.model, rewardModel: rlhf.rewardModel };
    const asked = prompts.flatMap((prompt) => Array.from({ length: options.samplesPerPrompt }, () => prompt));
    const rewardRows = await rlhf.rewardReader?.rows(asked, rollout, options.parity);
    const { scored, firstValues } = score(models, rollout, { ...options, rewardRows });
    stopScoring(numTokens(scored));
    if (!scored.scores.isFinite().all().item()) {
      throw new TrainingError(`PPO: the reward model gave a score that is not finite in iteration ${this.#iterations + 1}`);
    }
    samplingGap(scored); // throws before anything is learnt from answers that are not the actor's
    const experience = shapeExperience(scored, { ...options, klCoef: this.klCoef });
    this.#firstValues.set(experience, { values: firstValues, steps: rlhf.critic.numSteps });
    return experience;
  }

  /**
   * Updates actor and critic from an experience.
   *
   * @throws {TrainingError} when a loss or a gradient is not finite, or the actor is not the one that the experience was scored with
   */
  trainRlhf(experience: Experience, { learningRateFactor = 1, updatesActor = true }: IterationSchedule = {}): TrainResult {
    const { options, rlhf } = this, scaled = (rate: number | undefined) => rate && rate * learningRateFactor;
    const stopUpdate = this.#stopwatch.start("update");
    const kept = this.#firstValues.get(experience);
    this.#firstValues.delete(experience);
    const updated = update(rlhf.actor, rlhf.critic, experience, {
      ...options,
      seed: options.seed + this.#iterations * 1000,
      actorLearningRate: options.actorLearningRate * learningRateFactor,
      criticLearningRate: options.criticLearningRate * learningRateFactor,
      actorLoraLearningRate: scaled(options.actorLoraLearningRate),
      criticLoraLearningRate: scaled(options.criticLoraLearningRate),
      updatesActor,
    }, kept?.steps === rlhf.critic.numSteps ? kept.values : undefined);
    stopUpdate(numTokens(experience));
    this.#iterations++;
    const { policyLoss = Number.NaN, valueLoss = Number.NaN, ...rest } = updated;
    const described = describe(experience);
    const { generate, train } = rlhf.generator.switchSeconds;
    const switching = { switchToGenerateSeconds: generate, switchToTrainSeconds: train };
    const metrics = { ...described, klCoef: this.klCoef, ...rest, ...this.#stopwatch.metrics(), ...switching };
    this.#stopwatch.reset();
    this.#adaptiveKl?.update(described.kl, experience.prompts.length);
    return { policyLoss, valueLoss, metrics };
  }
}

/** Figures of a rollout: means over its answers or tokens. */
function describe(experience: Experience) {
  const { scores, responses, finishReasons, responseMask, oldLogprobs: logprobs, referenceLogprobs } = experience;
  const kl = klStatistics({ logprobs, referenceLogprobs, responseMask });
  const { mean, variance } = moments(scores.numbers());
  return {
    reward: mean,
    rewardDeviation: Math.sqrt(variance),
    kl: kl.perSequence.item(), klPerToken: kl.perToken.item(), k3PerToken: kl.k3.item(), negativeKlFraction: kl.negativeFraction.item(),
    responseLength: sum(responses.map((response) => response.length)) / responses.length,
    finished: finishReasons.filter((reason) => reason === "eos").length / finishReasons.length,
    explainedVariance: explainedVariance(experience).item(),
    ...samplingGap(experience),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function numTokens({ prompts, responses }: Pick<Experience, "prompts" | "responses">): number {
  return sum(prompts.map((prompt, i) => prompt.length + (responses[i]?.length ?? 0)));
}
