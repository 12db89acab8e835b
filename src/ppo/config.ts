import { checkSharedConfig, microBatchTokensField, outputField, sharedFields, stepFields } from "../config/common.ts";
import { checkAdapter, checkLora, loraSharedFields } from "../config/lora.ts";
import { boolean, choice, group, integer, number, path, type ConfigOf, type Fields } from "../config/fields.ts";
import { didYouMean } from "../config/names.ts";
import type { Settings } from "../config/resolve.ts";
import { ConfigError } from "../errors.ts";

/** Settings of step 3. */
export const ppoFields = {
  ...group("Models:", {
    actor: path({
      hint: "<model>", aliases: ["actor_model_name_or_path"], hub: "model",
      help: "SFT model: the actor starts from it, the reference stays at it",
    }),
    actorAdapter: path({
      hint: "<dir>", optional: true, hub: "adapter", help: "LoRA adapter in PEFT's format, merged into the SFT model before anything else",
    }),
    rewardModel: path({
      hint: "<model>", aliases: ["critic_model_name_or_path"], hub: "model",
      help: "reward model: gives the scores; the critic starts from it",
    }),
  }),
  ...outputField,
  ...sharedFields,
  ...group("Rollout:", {
    rolloutBatchSize: integer({
      default: 32, min: 1, aliases: ["per_device_generation_batch_size"], help: "prompts of one rollout, over all ranks",
    }),
    samplesPerPrompt: integer({ default: 1, min: 1, help: "answers sampled to each prompt" }),
    maxPromptLen: integer({
      default: 256, min: 1, aliases: ["max_prompt_seq_len"], help: "longest prompt in tokens; longer ones are left out and counted",
    }),
    maxNewTokens: integer({ default: 128, min: 1, aliases: ["max_answer_seq_len"], help: "longest answer in tokens" }),
    minNewTokens: integer({ default: 0, min: 0, help: "shortest answer in tokens; the end token is impossible before" }),
    // No top-k and top-p: they change the distribution that the log-probabilities of training are taken from.
    temperature: number({ default: 1, above: 0, help: "sampling temperature; all log-probabilities are taken at it" }),
    rolloutWeights: choice(["same", "int8"], {
      default: "same",
      help: "weights that answers are sampled with; int8 is a rounded copy, half the memory traffic, and the loss is corrected for it",
    }),
    importanceCap: number({ default: 2, min: 1, help: "largest weight of a token in that correction" }),
  }),
  ...group("Reward:", {
    klCoef: number({ default: 0.05, min: 0, help: "weight of the KL penalty per token against the reference, in nats" }),
    klTarget: number({
      above: 0, optional: true,
      help: "KL per answer, in nats, that an adaptive controller of the weight aims at; fixed weight when left out",
    }),
    klHorizon: integer({
      min: 1, optional: true, help: "answers over which the adaptive controller reacts; 10000 when left out; needs --kl-target",
    }),
    rewardClip: number({ default: 5, above: 0, help: "scores are clipped to plus and minus this" }),
    // Without it answers grow until they are cut off.
    missingEosPenalty: number({
      default: 1, min: 0, help: "subtracted from the score of an answer that does not end within --max-new-tokens",
    }),
    whitenRewards: boolean({ default: false, help: "scale the rewards per token of a rollout to variance 1" }),
  }),
  ...group("Advantages and losses:", {
    gamma: number({ default: 1, min: 0, max: 1, help: "discount factor" }),
    gaeLambda: number({ default: 0.95, min: 0, max: 1, help: "lambda of GAE: bias against variance of the advantages" }),
    whitenAdvantages: boolean({ default: true, help: "shift and scale the advantages of a rollout to mean 0 and variance 1" }),
    clipRange: number({ default: 0.2, above: 0, help: "half-width of the trust region around ratio 1" }),
    valueClipRange: number({ default: 0.2, above: 0, help: "how far a value may move from the rollout's before its loss is clipped" }),
    targetKl: number({
      above: 0, optional: true,
      help: "stop the passes over a rollout when the approximate KL of an update, in nats per token, exceeds this",
    }),
    parity: choice(["none", "deepspeed-chat"], {
      default: "none", help: "deepspeed-chat: its arithmetic, and its values for the settings not given",
    }),
  }),
  ...group("Training:", {
    epochs: integer({ default: 1, min: 1, aliases: ["num_train_epochs"], help: "passes over the prompts" }),
    // More passes are unstable in DeepSpeed-Chat's experience.
    ppoEpochs: integer({ default: 1, min: 1, help: "passes over each rollout" }),
    miniBatchSize: integer({
      default: 32, min: 1, aliases: ["per_device_training_batch_size"], help: "answers of one optimizer step, over all ranks",
    }),
    ...microBatchTokensField,
    actorLearningRate: number({ default: 1e-6, min: 0, help: "peak learning rate of the actor; up to 1e-5 for small models" }),
    // 3 to 10 times the actor's: the critic has to follow it.
    criticLearningRate: number({ default: 5e-6, min: 0, help: "peak learning rate of the critic" }),
    // A reward model is trained at last tokens only; what its head says in the middle of an answer may be far off.
    criticHead: choice(["reward-model", "zero"], {
      default: "reward-model",
      help: "where the critic's head starts: at the reward model's, or at zero, which a short run recovers from faster",
    }),
    criticWarmupSteps: integer({ default: 0, min: 0, help: "first iterations in which only the critic learns" }),
    schedule: choice(["cosine", "linear", "constant"], {
      default: "linear", aliases: ["lr_scheduler_type"], help: "learning rate after warm-up: falls to 0 along a cosine or a line, or stays",
    }),
    warmupSteps: integer({ default: 0, min: 0, aliases: ["num_warmup_steps"], help: "iterations in which the learning rate rises from 0" }),
    weightDecay: number({
      default: 0, min: 0, aliases: ["actor_weight_decay", "critic_weight_decay"], help: "decoupled weight decay of matrices",
    }),
    gradientClip: number({ default: 1, above: 0, help: "largest 2-norm of the gradient of actor and of critic" }),
    adamBeta1: number({ default: 0.9, min: 0, max: 0.9999, help: "decay of AdamW's mean of gradients" }),
    adamBeta2: number({ default: 0.95, min: 0, max: 0.9999, help: "decay of AdamW's mean of squared gradients" }),
    // "The 37 implementation details of PPO", 3: larger than AdamW's usual 1e-8.
    adamEpsilon: number({ default: 1e-5, above: 0, help: "added to the denominator of AdamW's step" }),
    ...stepFields,
    gradientCheckpointing: {
      ...stepFields.gradientCheckpointing, aliases: ["actor_gradient_checkpointing", "critic_gradient_checkpointing"],
    },
  }),
  ...group("LoRA:", {
    actorLoraRank: integer({
      default: 0, min: 0, aliases: ["actor_lora_dim"],
      help: "rank of low-rank adapters of the actor, which train in place of its weights; the reference is the actor without; 0 for none",
    }),
    criticLoraRank: integer({
      default: 0, min: 0, aliases: ["critic_lora_dim"], help: "rank of low-rank adapters of the critic; 0 for none",
    }),
    ...loraSharedFields,
    actorLoraLearningRate: number({
      min: 0, optional: true, help: "peak learning rate of the actor's adapters; --actor-learning-rate when left out",
    }),
    criticLoraLearningRate: number({
      min: 0, optional: true, help: "peak learning rate of the critic's adapters; --critic-learning-rate when left out",
    }),
  }),
};

/** Configuration of step 3. */
export type PpoConfig = ConfigOf<typeof ppoFields>;

/** What DeepSpeed-Chat's step 3 does where it differs from our defaults (its constants and the defaults of its flags). */
export const deepSpeedChatRecipe = {
  klCoef: 0.1,
  maxNewTokens: 256,
  missingEosPenalty: 0,
  whitenAdvantages: false,
  actorLearningRate: 9.65e-6,
  schedule: "cosine",
  warmupSteps: 100,
  adamEpsilon: 1e-8,
} satisfies Partial<PpoConfig>;

/** @throws {ConfigError} naming the flag that does not fit the others */
export function checkPpoConfig(config: PpoConfig): void {
  checkSharedConfig(config);
  checkPpoLora(config);
  const { rolloutBatchSize, samplesPerPrompt, miniBatchSize, maxPromptLen, maxNewTokens, minNewTokens, microBatchTokens } = config;
  const answers = rolloutBatchSize * samplesPerPrompt;
  if (answers % miniBatchSize !== 0) {
    throw new ConfigError(
      `--mini-batch-size: expected a divisor of the answers of a rollout (${rolloutBatchSize} prompts x ${samplesPerPrompt} samples ` +
        `= ${answers}), got ${miniBatchSize}`,
    );
  }
  if (config.klHorizon !== undefined && config.klTarget === undefined) {
    throw new ConfigError("--kl-horizon: only the adaptive controller uses it; give --kl-target too");
  }
  if (minNewTokens > maxNewTokens) {
    throw new ConfigError(`--min-new-tokens: expected at most --max-new-tokens (${maxNewTokens}), got ${minNewTokens}`);
  }
  const longest = maxPromptLen + maxNewTokens;
  if (microBatchTokens < longest) {
    throw new ConfigError(
      `--micro-batch-tokens: expected at least --max-prompt-len + --max-new-tokens (${longest}), got ${microBatchTokens}; ` +
        "a sequence must fit into one forward",
    );
  }
}

type LoraConfig = Pick<
  PpoConfig, keyof typeof loraSharedFields | "actorLoraRank" | "criticLoraRank" | "actorLoraLearningRate" | "criticLoraLearningRate"
  | "actorAdapter"
>;

/** @throws {ConfigError} when a setting of adapters would have no effect, or would break PPO */
export function checkPpoLora(config: LoraConfig): void {
  const { actorLoraRank, criticLoraRank, actorLoraLearningRate, criticLoraLearningRate } = config;
  checkLora(config, { actorLoraRank, criticLoraRank }, {
    actorLoraLearningRate: ["actorLoraRank", actorLoraLearningRate], criticLoraLearningRate: ["criticLoraRank", criticLoraLearningRate],
  });
  checkAdapter("actorAdapter", config.actorAdapter, "actorLoraRank", actorLoraRank);
  if ((config.loraDropout ?? 0) > 0) {
    throw new ConfigError(
      `--lora-dropout: expected 0 in PPO, got ${config.loraDropout}: with dropout the update's log-probabilities would not be those that ` +
        "the answers were sampled with, and the first ratio not 1",
    );
  }
}

/** Values that take the place of defaults. */
export function ppoRecipe({ parity }: Pick<PpoConfig, "parity">): Partial<PpoConfig> {
  return parity === "deepspeed-chat" ? deepSpeedChatRecipe : {};
}

/** Step 3: PPO. */
export const ppoSettings: Settings<typeof ppoFields, "ppo"> = { name: "ppo", fields: ppoFields, recipe: ppoRecipe, check: checkPpoConfig };

/** What `RlhfEngine.load` takes besides settings of PPO. */
const engineOnly = ["tokenizer"];

/**
 * The settings in `options` that are among `fields`, so that one object can be given to `RlhfEngine.load` and to `PpoTrainer`.
 *
 * @throws {ConfigError} for a key that is no setting of PPO at all, naming the nearest
 */
export function settingsAmong<F extends Fields>(fields: F, options: object): Partial<ConfigOf<F>> {
  for (const key of Object.keys(options)) {
    if (Object.hasOwn(ppoFields, key) || engineOnly.includes(key)) continue;
    throw new ConfigError(`unknown setting "${key}" of PPO${didYouMean(key, Object.keys(ppoFields))}`);
  }
  return Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(fields, key))) as Partial<ConfigOf<F>>;
}
