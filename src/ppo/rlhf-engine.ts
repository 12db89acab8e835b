import { stepFields } from "../config/common.ts";
import type { ConfigOf } from "../config/fields.ts";
import { loraChoice, loraSharedFields } from "../config/lora.ts";
import { completeConfig } from "../config/resolve.ts";
import { HybridEngine } from "../engine/hybrid-engine.ts";
import { engineOptions, TrainEngine } from "../engine/train-engine.ts";
import { ConfigError } from "../errors.ts";
import { CausalLM } from "../model/causal-lm.ts";
import type { LoadOptions } from "../model/pretrained.ts";
import { RewardModel } from "../model/reward-model.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { checkPpoLora, ppoFields, ppoRecipe, settingsAmong } from "./config.ts";

const {
  adamBeta1, adamBeta2, adamEpsilon, weightDecay, gradientClip, criticHead, rolloutWeights, parity, seed, actorAdapter, actorLoraRank,
  criticLoraRank, actorLoraLearningRate, criticLoraLearningRate,
} = ppoFields;
const engineFields = {
  adamBeta1, adamBeta2, adamEpsilon, weightDecay, gradientClip, ...stepFields, criticHead, rolloutWeights, parity, seed, actorAdapter,
  actorLoraRank, criticLoraRank, actorLoraLearningRate, criticLoraLearningRate, ...loraSharedFields,
};

/** Which models to bring together, and how they are updated: by the names and with the defaults of `tschat ppo`. */
export interface RlhfOptions extends Omit<LoadOptions, "adapter">, Partial<ConfigOf<typeof engineFields>> {
  /** SFT model, a folder or .gguf file: the actor starts from it, the reference stays at it. */
  actor: string;
  /** Reward model folder: it scores, and the critic starts from it. */
  rewardModel: string;
  /** Default: the actor's own. */
  tokenizer?: Tokenizer;
}

/** The models of PPO: actor and critic train, reference and reward model only score. */
export class RlhfEngine {
  readonly actor: TrainEngine<CausalLM>;
  /** Samples rollouts, from the actor's very weights or from a copy in int8. */
  readonly generator: HybridEngine;
  /** Samples answers to held-out prompts, from the actor's very weights. */
  readonly evaluator: HybridEngine;
  /** The SFT model; the actor without its adapters, where nothing else of it trains. */
  readonly reference: CausalLM;
  readonly critic: TrainEngine<RewardModel>;
  readonly rewardModel: RewardModel;
  readonly tokenizer: Tokenizer;

  private constructor(parts: Pick<RlhfEngine, "actor" | "generator" | "evaluator" | "reference" | "critic" | "rewardModel" | "tokenizer">) {
    this.actor = parts.actor;
    this.generator = parts.generator;
    this.evaluator = parts.evaluator;
    this.reference = parts.reference;
    this.critic = parts.critic;
    this.rewardModel = parts.rewardModel;
    this.tokenizer = parts.tokenizer;
  }

  /**
   * Loads all four models.
   *
   * @throws {CheckpointError} for a folder that is not the kind of model it should be
   * @throws {ConfigError} for an unknown setting or a value out of range, and when actor and reward model have different
   *   vocabularies: token ids go from one to the other
   */
  static async load(options: RlhfOptions): Promise<RlhfEngine> {
    const { actor: actorPath, rewardModel: rewardPath } = options;
    const settings = completeConfig(
      { name: "ppo", fields: engineFields, recipe: ppoRecipe, check: checkPpoLora }, settingsAmong(engineFields, options),
    );
    const tokenizer = options.tokenizer ?? (await Tokenizer.load(actorPath));
    const loadActor = () => CausalLM.load(actorPath, { ...options, adapter: settings.actorAdapter });
    const actor = await loadActor();
    const rewardModel = (await RewardModel.load(rewardPath, options)).freeze();
    const critic = settings.criticHead === "zero"
      ? await RewardModel.withNewHead(rewardPath, { ...options, head: "zero" })
      : await RewardModel.load(rewardPath, options);
    if (actor.spec.vocabSize !== critic.spec.vocabSize) {
      throw new ConfigError(
        `${rewardPath}: its vocabulary has ${critic.spec.vocabSize} tokens, the actor's ${actor.spec.vocabSize}; ` +
          "train the reward model from a model with the actor's tokenizer",
      );
    }
    actor.generationConfig = { ...actor.generationConfig, eos_token_id: tokenizer.endOfTurnTokenId };
    const { actorLoraRank: actorRank, criticLoraRank: criticRank, seed: firstSeed } = settings;
    if (actorRank > 0) actor.addLora(loraChoice(actorRank, firstSeed, settings));
    if (criticRank > 0) critic.addLora(loraChoice(criticRank, firstSeed + 1, settings));
    const adam = { ...engineOptions(settings), releasesGradients: true };
    const evaluator = new HybridEngine(actor, { tokenizer });
    const { rolloutWeights: weights } = settings;
    return new RlhfEngine({
      actor: new TrainEngine(actor, adam),
      generator: weights === "same" ? evaluator : new HybridEngine(actor, { tokenizer, weights, selfCheck: false }),
      evaluator,
      reference: actor.lora?.options.onlyLora ? actor.withoutLora() : (await loadActor()).freeze(),
      critic: new TrainEngine(critic, adam),
      rewardModel,
      tokenizer,
    });
  }
}
