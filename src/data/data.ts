export { epochOrder, type Minibatch, minibatches, type SamplerOptions, type SamplerState, trainingBatches } from "./batches.ts";
export { type Dataset, type DatasetOptions, type FileStatistics, loadDataset } from "./dataset.ts";
export {
  type ConversationEncoder, type DemonstrationOptions, type Encoded, type EncodeProgress, encodeDemonstrations, encodePreferences,
  encodePrompts, type PreferenceOptions, type PreferencePair, type PromptOptions, type PromptSample, type SftSample,
} from "./encode.ts";
export { type HeldOut, holdOut } from "./hold-out.ts";
export { type JsonLine, readJsonl } from "./jsonl.ts";
export {
  type DataRecord, type Demonstration, type Origin, type Preference, type PromptRecord, type ReasonCounts, recordForStep,
  type SkippedRecord, type StepRecords,
} from "./records.ts";
export { shuffleIndices } from "./shuffle.ts";
export { parseRecord } from "./sources/parse-record.ts";
export { splitBounds, splitForStep, type Step } from "./split.ts";
