import { ConfigError } from "../errors.ts";
import { type ShapeSettings, type SourceSetting, withShape, withWeights } from "./data-sources.ts";
import { boolean, choice, group, integer, number, numbers, path, sources, text } from "./fields.ts";

/** `--config`, for every command that reads a settings file. */
export const configField = {
  config: path({
    hint: "<file.yaml>", optional: true, flagOnly: true, help: "settings file: shared settings and a section per step; flags win",
  }),
};

/** The number format: bfloat16 takes half the memory and, with processor support, half the time. */
export const dtypeField = {
  dtype: choice(["auto", "float32", "bfloat16"], {
    default: "auto", synonyms: { fp32: "float32", bf16: "bfloat16" },
    help: "number format; auto is bfloat16 where the hardware computes it fast, otherwise float32",
  }),
};

/** Where to compute. */
export const machineFields = {
  device: choice(["auto", "cpu"], { default: "auto", help: "where to compute; this version computes on the CPU" }),
  threads: integer({ min: 1, optional: true, neutral: true, help: "processor threads; all cores when left out" }),
};

/** Start over although the output folder holds a run. */
export const forceField = {
  force: boolean({ default: false, flagOnly: true, help: "train again, replacing what an earlier run left in the output folder" }),
};

/** Records held out when neither --eval-size nor --eval-data is given. */
export const defaultEvalSize = 64;

interface HeldOutSettings extends ShapeSettings {
  readonly evalData?: string | undefined;
  readonly evalSize?: number | undefined;
}

/** What is held out of the data, or the file that takes its place. */
export function heldOutOf(
  { evalData, evalSize, ...shape }: HeldOutSettings,
): { heldOutPaths: readonly (string | SourceSetting)[] } | { heldOutShare: number } {
  return evalData === undefined ? { heldOutShare: evalSize ?? defaultEvalSize } : { heldOutPaths: withShape([evalData], shape) };
}

interface DataSettings extends ShapeSettings {
  readonly data: readonly (string | SourceSetting)[];
  readonly dataWeights?: readonly number[] | undefined;
}

/** The sources to train on, with what the flags say about them. @throws {ConfigError} when that does not fit together */
export function sourcesOf({ data, dataWeights, ...shape }: DataSettings): readonly (string | SourceSetting)[] {
  return withWeights(withShape(data, shape), dataWeights);
}

/** @throws {ConfigError} when a setting would have no effect, or weights and sources do not fit together */
export function checkSharedConfig({ evalData, evalSize, ...settings }: HeldOutSettings & DataSettings): void {
  sourcesOf(settings);
  if (evalData !== undefined && evalSize !== undefined) {
    throw new ConfigError("--eval-size: not beside --eval-data, whose records are all held out; give one of them");
  }
}

/** Settings that all steps share, and that `tschat train` therefore takes once. */
export const sharedFields = {
  ...group("Data:", {
    data: sources({
      aliases: ["data_path", "prompts"], hub: "dataset",
      help: "data to train on: files or folders (JSONL, CSV, Parquet, ...), known data sets, or the hub's: org/name[@revision][:split]",
    }),
    dataWeights: numbers({
      above: 0, optional: true,
      help: "shares of the sources of --data in every epoch, e.g. 0.7 0.3; without it an epoch has every record once",
    }),
    dataFields: text({
      hint: "<name=path,...>", optional: true, help: "where in a record its fields are, e.g. prompt=question,completion=answer.text",
    }),
    dataFormat: text({
      hint: "<name>", optional: true, help: "known data set whose format the records have, e.g. openai/gsm8k, or parity",
    }),
    evalData: path({
      hint: "<file>", optional: true, aliases: ["eval_prompts"], hub: "dataset",
      help: "held-out data; without it --eval-size records are held out",
    }),
    dataSplit: text({
      hint: "<a,b,c>", optional: true,
      help: "give each step its own share of the data, in these proportions, e.g. 2,4,4; without it every step sees all",
    }),
    truncation: choice(["drop", "left", "right", "error"], {
      default: "drop", aliases: ["truncation_mode"], synonyms: { keep_end: "left", keep_start: "right" },
      help: "what is too long is left out, loses its oldest turns (left) or its end (right), or ends the command; all is counted",
    }),
    dataCache: text({
      hint: "<dir|off>", optional: true, neutral: true,
      help: "folder for encoded data, which steps and runs share; tokens/ in tschat's cache folder when left out; off keeps them in memory",
    }),
    evalSize: integer({
      min: 1, optional: true, help: `records held out of --data for evaluation; ${defaultEvalSize} when left out; not beside --eval-data`,
    }),
  }),
  ...group("Run:", {
    // 1234 is DeepSpeed-Chat's default.
    seed: integer({ default: 1234, min: 0, help: "seed of shuffling, initialisation and sampling" }),
    ...dtypeField,
    ...machineFields,
    // As in transformers, the count of steps takes the place of epochs; the schedule ends with it.
    maxSteps: integer({
      min: 1, optional: true, aliases: ["num_iterations"], help: "train this many steps instead of --epochs, repeating the data",
    }),
    saveEvery: integer({ default: 0, min: 0, neutral: true, help: "save every n steps; 0 saves only at the end" }),
    evalEvery: integer({ default: 0, min: 0, neutral: true, help: "evaluate every n steps; 0 evaluates before and after only" }),
    logEvery: integer({ default: 1, min: 1, neutral: true, help: "log every n steps" }),
    ...forceField,
  }),
};

/** Where a step writes. */
export const outputField = group("Output:", {
  output: path({
    hint: "<dir>", aliases: ["output_dir"], neutral: true, help: "run folder to write: model, metrics, samples, resolved settings",
  }),
});

/** AdamW and its schedule, as supervised fine-tuning and reward training share them. */
export const optimizerFields = {
  epochs: integer({ default: 1, min: 1, aliases: ["num_train_epochs"], help: "passes over the training data" }),
  weightDecay: number({ default: 0, min: 0, help: "decoupled weight decay of matrices; norms and biases never decay" }),
  schedule: choice(["cosine", "linear", "constant"], {
    default: "cosine", aliases: ["lr_scheduler_type"], help: "learning rate after warm-up: falls to 0 along a cosine or a line, or stays",
  }),
  warmupRatio: number({ default: 0.03, min: 0, max: 1, help: "share of all steps in which the learning rate rises from 0" }),
  warmupSteps: integer({
    min: 0, optional: true, aliases: ["num_warmup_steps"], help: "steps of warm-up; takes the place of --warmup-ratio",
  }),
  gradientClip: number({ default: 1, above: 0, help: "largest 2-norm of the gradient; longer ones are scaled down" }),
  // 0.9 and 0.95 are DeepSpeed-Chat's.
  adamBeta1: number({ default: 0.9, min: 0, max: 0.9999, help: "decay of AdamW's mean of gradients" }),
  adamBeta2: number({ default: 0.95, min: 0, max: 0.9999, help: "decay of AdamW's mean of squared gradients" }),
  adamEpsilon: number({ default: 1e-8, above: 0, help: "added to the denominator of AdamW's step" }),
};

/** How a training step is computed, and what happens when it cannot be taken; the same in all steps. */
export const stepFields = {
  gradientCheckpointing: boolean({
    default: false, neutral: true,
    help: "compute every layer again going backward instead of keeping what it computed: less memory, a fifth more time",
  }),
  onNonFinite: choice(["stop", "skip"], {
    default: "stop",
    help: "a loss or gradient that is not finite ends the run, or its step is left out, up to 9 in a row; the first bad tensor is named",
  }),
};

/** Tokens of one forward; bounds the memory of activations. */
export const microBatchTokensField = {
  microBatchTokens: integer({
    default: 4096, min: 1, help: "tokens of one forward on one rank; less takes less memory, the result is the same",
  }),
};
