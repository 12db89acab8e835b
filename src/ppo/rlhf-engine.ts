import { HybridEngine } from "../engine/hybrid-engine.ts";
import { adamOptions, type AdamSettings, TrainEngine } from "../engine/train-engine.ts";
import { ConfigError } from "../errors.ts";
import { CausalLM } from "../model/causal-lm.ts";
import type { LoadOptions } from "../model/pretrained.ts";
import { RewardModel } from "../model/reward-model.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Which models to bring together, and how they are updated. */
export interface RlhfOptions extends LoadOptions, Partial<AdamSettings> {
  /** SFT model, a folder or .gguf file: the actor starts from it, the reference stays at it. */
  actor: string;
  /** Reward model folder: it scores, and the critic starts from it. */
  rewardModel: string;
  /** Where the critic's head starts: at the reward model's, or at zero. Default "reward-model". */
  criticHead?: "reward-model" | "zero";
  /** Default: the actor's own. */
  tokenizer?: Tokenizer;
}

/** The models of PPO: actor and critic train, reference and reward model only score. */
export class RlhfEngine {
  readonly actor: TrainEngine<CausalLM>;
  /** Samples from the actor's very weights. */
  readonly generator: HybridEngine;
  readonly reference: CausalLM;
  readonly critic: TrainEngine<RewardModel>;
  readonly rewardModel: RewardModel;
  readonly tokenizer: Tokenizer;

  private constructor(parts: Pick<RlhfEngine, "actor" | "generator" | "reference" | "critic" | "rewardModel" | "tokenizer">) {
    this.actor = parts.actor;
    this.generator = parts.generator;
    this.reference = parts.reference;
    this.critic = parts.critic;
    this.rewardModel = parts.rewardModel;
    this.tokenizer = parts.tokenizer;
  }

  /**
   * Loads all four models.
   *
   * @throws {CheckpointError} for a folder that is not the kind of model it should be
   * @throws {ConfigError} when actor and reward model have different vocabularies: token ids go from one to the other
   */
  static async load(options: RlhfOptions): Promise<RlhfEngine> {
    const { actor: actorPath, rewardModel: rewardPath } = options;
    const tokenizer = options.tokenizer ?? (await Tokenizer.load(actorPath));
    const actor = await CausalLM.load(actorPath, options);
    const rewardModel = (await RewardModel.load(rewardPath, options)).freeze();
    const critic = options.criticHead === "zero"
      ? await RewardModel.withNewHead(rewardPath, { ...options, head: "zero" })
      : await RewardModel.load(rewardPath, options);
    if (actor.spec.vocabSize !== critic.spec.vocabSize) {
      throw new ConfigError(
        `${rewardPath}: its vocabulary has ${critic.spec.vocabSize} tokens, the actor's ${actor.spec.vocabSize}; ` +
          "train the reward model from a model with the actor's tokenizer",
      );
    }
    actor.generationConfig = { ...actor.generationConfig, eos_token_id: tokenizer.endOfTurnTokenId };
    const adam = adamOptions({ adamBeta1: 0.9, adamBeta2: 0.95, adamEpsilon: 1e-5, weightDecay: 0, gradientClip: 1, ...options });
    return new RlhfEngine({
      actor: new TrainEngine(actor, adam),
      generator: new HybridEngine(actor, { tokenizer }),
      reference: (await CausalLM.load(actorPath, options)).freeze(),
      critic: new TrainEngine(critic, adam),
      rewardModel,
      tokenizer,
    });
  }
}
