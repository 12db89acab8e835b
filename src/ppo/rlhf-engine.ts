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
import { readingOf, RewardReader } from "./reward-reader.ts";
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
  /** Reward model folder: it scores, and the critic starts from it, if it has the actor's tokens. */
  rewardModel: string;
  /** Default: the actor's own. */
  tokenizer?: Tokenizer;
}

type EngineParts =
  | "actor" | "generator" | "evaluator" | "reference" | "critic" | "rewardModel" | "tokenizer" | "rewardReader" | "notes";

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
  /** The actor's. */
  readonly tokenizer: Tokenizer;
  /** Writes answers anew for a reward model with another tokenizer or template; undefined where it takes the actor's tokens. */
  readonly rewardReader: RewardReader | undefined;
  /** What the user should know of how the models came together. */
  readonly notes: readonly string[];

  private constructor(parts: Pick<RlhfEngine, EngineParts>) {
    this.actor = parts.actor;
    this.generator = parts.generator;
    this.evaluator = parts.evaluator;
    this.reference = parts.reference;
    this.critic = parts.critic;
    this.rewardModel = parts.rewardModel;
    this.tokenizer = parts.tokenizer;
    this.rewardReader = parts.rewardReader;
    this.notes = parts.notes;
  }

  /**
   * Loads all four models.
   *
   * @throws {CheckpointError} for a folder that is not the kind of model it should be
   * @throws {ConfigError} for an unknown setting or a value out of range, and when the reward model has fewer tokens than the actor
   *   and no tokenizer of its own to read text with
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
    const rewardTokenizer = await Tokenizer.loadIfPresent(rewardPath);
    const hasActorsTokens = rewardModel.spec.vocabSize >= actor.spec.vocabSize;
    if (!hasActorsTokens && rewardTokenizer === undefined) {
      throw new ConfigError(
        `${rewardPath}: its vocabulary has ${rewardModel.spec.vocabSize} tokens, the actor's ${actor.spec.vocabSize}, and it has no ` +
          "tokenizer; put the files of its tokenizer into the folder",
      );
    }
    const reading = hasActorsTokens ? readingOf(tokenizer, rewardTokenizer) : "text";
    const criticFits = hasActorsTokens && (rewardTokenizer === undefined || tokenizer.sharesIdsWith(rewardTokenizer));
    const critic = await loadCritic(criticFits, options, settings);
    const notes = [
      ...(reading === "text" ? ["reward model: another tokenizer or chat template than the actor's; it reads the answers as text"] : []),
      ...(criticFits ? [] : ["critic: starts from the actor with a head of zeros, since the reward model has other tokens"]),
    ];
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
      rewardReader: reading === "text" && rewardTokenizer ? new RewardReader(tokenizer, rewardTokenizer) : undefined,
      notes,
    });
  }
}

/** The critic reads the actor's tokens: it starts from the reward model if that has the same ones, else from the actor. */
function loadCritic(
  fromRewardModel: boolean, options: RlhfOptions,
  { criticHead, actorAdapter }: Pick<ConfigOf<typeof engineFields>, "criticHead" | "actorAdapter">,
): Promise<RewardModel> {
  if (!fromRewardModel) return RewardModel.withNewHead(options.actor, { ...options, adapter: actorAdapter, head: "zero" });
  if (criticHead === "zero") return RewardModel.withNewHead(options.rewardModel, { ...options, head: "zero" });
  return RewardModel.load(options.rewardModel, options);
}
