import { availableParallelism } from "node:os";
import { ConfigError } from "../../src/errors.ts";
import { dtypeField, microBatchTokensField } from "../../src/config/common.ts";
import { boolean, choices, group, integer, path, text } from "../../src/config/fields.ts";
import { flagOf } from "../../src/config/names.ts";

/** The model to measure. */
export const modelField = { model: path({ hint: "<dir|file.gguf>", help: "Hugging Face folder or GGUF file to measure" }) };

/** A list of batch sizes. */
export const batchesField = {
  batch: text({ default: "1,8,32", hint: "<n,n,...>", help: "sequences at the same time; a row for each" }),
};

/** Tokens of every prompt. */
export const promptLengthField = { promptLength: integer({ default: 256, min: 1, help: "tokens of every prompt" }) };

/** How every benchmark is run and reported. */
export const runFields = group("Run:", {
  ...dtypeField,
  threads: integer({ default: availableParallelism(), min: 1, help: "processor threads" }),
  repeats: integer({ default: 3, min: 1, help: "runs of every measurement, whose median counts" }),
  json: boolean({ default: false, help: "print one JSON object a row instead of a table" }),
});

/** The folder of other engines, under whose heading the flags about them stand. */
export const peersField = {
  peers: path({ hint: "<dir>", optional: true, help: "folder that bench/peers/setup.sh made; measures the engines in it too, in turn" }),
};

/** Other engines that generate, to run in turn with ours. */
export const peerFields = group("Other engines:", {
  ...peersField,
  against: choices(["llama.cpp", "hf"], { default: ["llama.cpp", "hf"], help: "which of them" }),
  peerGguf: path({ hint: "<file.gguf>", optional: true, help: "the same model for llama.cpp" }),
});

/** Other trainers, to run PPO in turn with ours. */
export const ppoPeerFields = group("Other engines:", {
  ...peersField,
  against: choices(["deepspeed-chat", "trl"], { default: ["deepspeed-chat", "trl"], help: "which of them" }),
  peerDschat: path({ hint: "<dir>", optional: true, help: "DeepSpeed-Chat's sources; the environment variable DSCHAT_DIR when left out" }),
});

/** How training keeps its memory within bounds. */
export const trainingFields = {
  ...microBatchTokensField,
  checkpointing: boolean({ default: false, help: "recompute each block going backward, which takes less memory and more time" }),
};

/**
 * The numbers of a flag such as `--batch 1,8,32`.
 *
 * @throws {ConfigError} when one is no whole number of at least 1
 */
export function wholeNumbers(key: string, list: string): number[] {
  return list.split(",").map((item) => {
    if (/^\s*\d+\s*$/.test(item) && Number(item) >= 1) return Number(item);
    throw new ConfigError(`${flagOf(key)}: expected whole numbers of at least 1 with commas between them, got ${JSON.stringify(list)}`);
  });
}
