import { checkSharedConfig, microBatchTokensField, optimizerFields, outputField, sharedFields, stepFields } from "../config/common.ts";
import { adapterField, checkAdapter, checkLora, loraFields } from "../config/lora.ts";
import { choice, group, integer, number, path, type ConfigOf } from "../config/fields.ts";
import type { Settings } from "../config/resolve.ts";
import { ConfigError } from "../errors.ts";

/** Settings of step 1. */
export const sftFields = {
  ...group("Model:", {
    model: path({
      hint: "<model>", aliases: ["model_name_or_path"], hub: "model",
      help: "model to start from: a Hugging Face folder, a .gguf file, or org/name[@revision] on the hub",
    }),
    ...adapterField,
  }),
  ...outputField,
  ...sharedFields,
  ...group("Training:", {
    lossOn: choice(["answer", "all"], { default: "answer", help: "tokens that are learned: answers with their end token, or all" }),
    maxSeqLen: integer({ default: 512, min: 2, help: "longest conversation in tokens; longer ones are left out and counted" }),
    learningRate: number({ default: 2e-5, min: 0, help: "peak learning rate" }),
    miniBatchSize: integer({
      default: 16, min: 1, aliases: ["per_device_train_batch_size"], help: "sequences of one optimizer step, over all ranks",
    }),
    ...microBatchTokensField,
    ...optimizerFields,
    ...stepFields,
  }),
  ...loraFields,
};

/** Configuration of step 1. */
export type SftConfig = ConfigOf<typeof sftFields>;

/** @throws {ConfigError} when a sequence of the allowed length does not fit into one forward, or a setting would have no effect */
export function checkSftConfig(config: SftConfig): void {
  checkSharedConfig(config);
  const { microBatchTokens, maxSeqLen, loraRank, loraLearningRate, adapter } = config;
  checkLora(config, { loraRank }, { loraLearningRate: ["loraRank", loraLearningRate] });
  checkAdapter("adapter", adapter, "loraRank", loraRank);
  if (microBatchTokens < maxSeqLen) {
    throw new ConfigError(
      `--micro-batch-tokens: expected at least --max-seq-len (${maxSeqLen}), got ${microBatchTokens}; a sequence must fit into one forward`,
    );
  }
}

/** Step 1: supervised fine-tuning. */
export const sftSettings: Settings<typeof sftFields, "sft"> = { name: "sft", fields: sftFields, check: checkSftConfig };
