export { type Minibatch, minibatches, type SamplerOptions, type SamplerState, shard, trainingBatches } from "./batches.ts";
export { defaultCacheFolder, type TokenCache, tokenCacheFor } from "./cache/token-cache.ts";
export { type Dataset, type DatasetOptions, type FileStatistics, loadDataset } from "./dataset.ts";
export { type DrawnSet, drawnRows, epochCounts } from "./drawn-sets.ts";
export {
  type ConversationEncoder, type DemonstrationOptions, type Encoded, type EncodeOptions, type EncodeProgress, type Encoding,
  encodeDemonstrations, encodePreferences, encodePrompts, type PreferenceOptions, type PreferencePair, type PromptOptions,
  type PromptSample, type RecordEncoder, type SftSample,
} from "./encode.ts";
export { dataFiles, type RawRecord, readFile } from "./files/read.ts";
export { type HeldOut, holdOut } from "./hold-out.ts";
export { type JsonLine, readJsonl } from "./jsonl.ts";
export { type PreparedData, type PrepareOptions, prepareData, type SourceStatistics, type StepSamples } from "./prepare.ts";
export { demonstrationEncoder, preferenceEncoder, promptEncoder } from "./record-encoders.ts";
export {
  type DataRecord, type Demonstration, type Origin, type Preference, type Prompt, type PromptRecord, type ReasonCounts, RecordError,
  recordForStep, type SkippedRecord, type StepRecords,
} from "./records.ts";
export { type Samples, take } from "./samples.ts";
export { epochOrder, shuffleIndices } from "./shuffle.ts";
export type { FieldMapping } from "./sources/mapping.ts";
export type { NamedDataset } from "./sources/named/named-dataset.ts";
export { namedDataset, namedDatasets } from "./sources/named/registry.ts";
export { parseRecord } from "./sources/parse-record.ts";
export { type DataSource, type RecordReader, recordReader } from "./sources/source.ts";
export { splitBounds, splitForStep, type Step } from "./split.ts";
export { shortenPrompt, type Truncation } from "./truncate.ts";
export { textBlocks, type TextBlockOptions } from "./text-blocks.ts";
