// The public API, re-exports only.
export {
  CheckpointError, ConfigError, DistributedError, EngineMismatchError, HubError, Interrupted, NativeError, OutOfMemoryError, TrainingError,
} from "./errors.ts";
export type { DType } from "./native/binding.ts";

export { enableGrad, manualSeed, noGrad } from "./tensor/autograd.ts";
export { type NestedValues, tensor } from "./tensor/create.ts";
export { numThreads, setNumThreads } from "./tensor/system.ts";
export { Tensor } from "./tensor/tensor.ts";
export { tidy } from "./tensor/tidy.ts";

export type { Message } from "./tokenizer/message.ts";
export { type EncodedConversation, type PaddedTokens, Tokenizer } from "./tokenizer/tokenizer.ts";

export { CausalLM, type ScoreOptions } from "./model/causal-lm.ts";
export { type LoadProgress, observeLoading } from "./model/formats/load-progress.ts";
export { checkpointingRunner, type LayerRunner, plainRunner } from "./model/layer-runner.ts";
export type { AttentionMask, TokenBatch } from "./model/packing.ts";
export { Lora, type LoraOptions } from "./model/lora.ts";
export type { LoadOptions } from "./model/pretrained.ts";
export { RewardModel, type ScoreScale } from "./model/reward-model.ts";
export type { TokenLogprobs } from "./model/token-logprobs.ts";

export { GenerationStopped } from "./engine/generation.ts";
export {
  type GenerateOptions, type GenerateResult, HybridEngine, type HybridEngineOptions, type StreamOptions,
} from "./engine/hybrid-engine.ts";
export type { FinishReason } from "./engine/request.ts";
export type { StreamedToken } from "./engine/token-queue.ts";
export { TrainEngine, type TrainEngineOptions } from "./engine/train-engine.ts";

export { type IterationSchedule, type PpoOptions, PpoTrainer, type TrainResult } from "./ppo/ppo-trainer.ts";
export type { Experience, Rollout, Scored } from "./ppo/records.ts";
export { RlhfEngine, type RlhfOptions } from "./ppo/rlhf-engine.ts";

export * as data from "./data/data.ts";
export * as hub from "./hub/hub.ts";
export * as ppo from "./ppo/ppo-math.ts";
export * as reward from "./reward/reward-math.ts";
