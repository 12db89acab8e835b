export { epochOrder, type Minibatch, minibatches, type SamplerOptions, type SamplerState, trainingBatches } from "./batches.ts";
export { type Dataset, type DatasetOptions, type FileStatistics, loadDataset } from "./dataset.ts";
export {
  type ConversationEncoder, type DemonstrationOptions, type Encoded, type EncodeProgress, encodeDemonstrations, encodePreferences,
  encodePrompts, type PreferenceOptions, type PreferencePair, type PromptOptions, type PromptSample, type SftSample,
} from "./encode.ts";
export { type HeldOut, holdOut } from "./hold-out.ts";
export { type JsonLine, readJsonl } from "./jsonl.ts";
export {
  type DataRecord, type Demonstration, type Origin, type Preference, type Prompt, type PromptRecord, type ReasonCounts, RecordError,
  recordForStep, type SkippedRecord, type StepRecords,
} from "./records.ts";
export { shuffleIndices } from "./shuffle.ts";
export type { FieldMapping } from "./sources/mapping.ts";
export type { NamedDataset } from "./sources/named/named-dataset.ts";
export { namedDataset, namedDatasets } from "./sources/named/registry.ts";
export { parseRecord } from "./sources/parse-record.ts";
export { type DataSource, parseDataSource, type RecordReader, recordReader } from "./sources/source.ts";
export { splitBounds, splitForStep, type Step } from "./split.ts";
