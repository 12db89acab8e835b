import { ConfigError } from "../errors.ts";
import { boolean, choice, group, integer, number, path, paths, text } from "./fields.ts";

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

interface HeldOutSettings {
  readonly evalData?: string | undefined;
  readonly evalSize?: number | undefined;
}

/** What is held out of the data, or the file that takes its place. */
export function heldOutOf({ evalData, evalSize }: HeldOutSettings): { heldOutPaths: string[] } | { heldOutShare: number } {
  return evalData === undefined ? { heldOutShare: evalSize ?? defaultEvalSize } : { heldOutPaths: [evalData] };
}

/** @throws {ConfigError} when a setting would have no effect */
export function checkSharedConfig({ evalData, evalSize }: HeldOutSettings): void {
  if (evalData !== undefined && evalSize !== undefined) {
    throw new ConfigError("--eval-size: not beside --eval-data, whose records are all held out; give one of them");
  }
}

/** Settings that all steps share, and that `tschat train` therefore takes once. */
export const sharedFields = {
  ...group("Data:", {
    data: paths({
      hint: "<files...>", aliases: ["data_path", "prompts"], hub: "dataset",
      help: "data to train on: JSONL files, also .gz and .zst, or data sets on the hub: org/name[@revision][:split]",
    }),
    evalData: path({
      hint: "<file>", optional: true, aliases: ["eval_prompts"], hub: "dataset",
      help: "held-out data; without it --eval-size records are held out",
    }),
    dataSplit: text({
      hint: "<a,b,c>", optional: true,
      help: "give each step its own share of the data, in these proportions, e.g. 2,4,4; without it every step sees all",
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
