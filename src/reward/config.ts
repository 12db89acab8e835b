import { checkSharedConfig, microBatchTokensField, optimizerFields, outputField, sharedFields, stepFields } from "../config/common.ts";
import { adapterField, checkAdapter, checkLora, loraFields } from "../config/lora.ts";
import { boolean, choice, group, integer, number, path, type ConfigOf } from "../config/fields.ts";
import type { Settings } from "../config/resolve.ts";
import { ConfigError } from "../errors.ts";

/** Settings of step 2. */
export const rewardFields = {
  ...group("Model:", {
    model: path({
      hint: "<model>", aliases: ["model_name_or_path"], hub: "model",
      help: "model to start from, usually the SFT model; it gets a new score head",
    }),
    ...adapterField,
  }),
  ...outputField,
  ...sharedFields,
  ...group("Training:", {
    objective: choice(["last-token", "deepspeed-chat"], {
      default: "last-token",
      help: "pairwise loss: on the scores at the last tokens, or DeepSpeed-Chat's mean from the first difference to the longer end",
    }),
    centerRewards: number({
      default: 0, min: 0, help: "weight of the squared sum of both scores, which keeps scores around 0 (arXiv:2312.09244)",
    }),
    numPaddingAtBeginning: integer({
      default: 0, min: 0, help: "pad tokens that open every sequence; deepspeed-chat objective only, 1 for OPT",
    }),
    normaliseScores: boolean({
      default: true, help: "store mean and deviation of the scores of held-out answers with the model, so that PPO sees scores around 0",
    }),
    maxSeqLen: integer({ default: 512, min: 2, help: "longest conversation in tokens; pairs with a longer one are left out and counted" }),
    learningRate: number({ default: 1e-5, min: 0, help: "peak learning rate" }),
    miniBatchSize: integer({
      default: 16, min: 1, aliases: ["per_device_train_batch_size"], help: "pairs of one optimizer step, over all ranks",
    }),
    ...microBatchTokensField,
    ...optimizerFields,
    ...stepFields,
  }),
  ...loraFields,
};

/** Configuration of step 2. */
export type RewardConfig = ConfigOf<typeof rewardFields>;

/** @throws {ConfigError} when a pair does not fit into one forward, or a setting would have no effect */
export function checkRewardConfig(config: RewardConfig): void {
  checkSharedConfig(config);
  const { microBatchTokens, maxSeqLen, objective, numPaddingAtBeginning, loraRank, loraLearningRate, adapter } = config;
  checkLora(config, { loraRank }, { loraLearningRate: ["loraRank", loraLearningRate] });
  checkAdapter("adapter", adapter, "loraRank", loraRank);
  if (microBatchTokens < 2 * maxSeqLen) {
    throw new ConfigError(
      `--micro-batch-tokens: expected at least twice --max-seq-len (${2 * maxSeqLen}), got ${microBatchTokens}; ` +
        "a pair must fit into one forward",
    );
  }
  if (objective !== "deepspeed-chat" && numPaddingAtBeginning > 0) {
    throw new ConfigError(
      `--num-padding-at-beginning: only --objective deepspeed-chat uses it, got ${numPaddingAtBeginning} with ${objective}`,
    );
  }
}

/** Step 2: reward model. */
export const rewardSettings: Settings<typeof rewardFields, "reward"> = { name: "reward", fields: rewardFields, check: checkRewardConfig };
