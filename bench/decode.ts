import type { CommandSpec } from "../src/config/command.ts";
import { choice, type ConfigOf, integer } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { compare, type Comparison, peerColumns } from "./lib/compare.ts";
import { batchesField, modelField, peerFields, promptLengthField, runFields, wholeNumbers } from "./lib/flags.ts";
import { checkContext } from "./lib/generation-run.ts";
import { betweenLimits, limitColumns, type LimitsAround, medianLimits } from "./lib/limits.ts";
import { openPeers } from "./lib/peers.ts";
import type { Row } from "./lib/report.ts";
import { boundOf, cacheBytes, decodeStepWork, meanContext, type ModelShape, weightBytes } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median } from "./lib/statistics.ts";

const fields = {
  ...modelField,
  ...batchesField,
  ...promptLengthField,
  newTokens: integer({ default: 128, min: 2, help: "tokens of every answer" }),
  weights: choice(["same", "int8"], { default: "same", help: "what the engine samples with: the weights as they are, or a copy in int8" }),
  ...peerFields,
  ...runFields,
};

/** `bench decode`: tokens per second of prefill and decoding, beside the limit of the machine. */
export const decodeCommand: CommandSpec = {
  name: "decode",
  summary: "decoding speed by batch, beside the machine's limit",
  description: "Generates with random prompts at temperature 1 and without end token. Decoding is the time of all tokens less that " +
    "of one. A step is bounded by reading the weights once and the cache of all sequences, or by its operations, whichever takes longer.",
  examples: [
    "npm run bench -- decode --model SmolLM2-135M-Instruct --dtype bfloat16 --batch 1,8,32 --prompt-length 256 --new-tokens 128",
    "npm run bench -- decode --model SmolLM2-135M-Instruct --peers build/peers --peer-gguf smollm2-bf16.gguf",
    "npm run bench -- decode --model SmolLM2-135M-Instruct --peers build/peers --against hf --batch 8 --json",
    "npm run bench -- decode --model SmolLM2-135M-Instruct --weights int8",
  ],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "decode", fields }, [flagLayer(flags)]);
    const batches = wholeNumbers("batch", config.batch);
    const peers = openPeers(config, flags);
    const { shape, dtype, report } = await openRun("decode", config);
    checkContext(shape, config.promptLength, config.newTokens);
    const measure = (batch: number) => compare({ ...config, dtype, batch, timesAddon: true }, peers);
    for await (const { each, result, limits } of betweenLimits(dtype, batches, measure)) {
      report.add(rowOf(config, each, shape, result, limits));
    }
    report.end();
    return 0;
  },
};

function rowOf(config: ConfigOf<typeof fields>, batch: number, shape: ModelShape, result: Comparison, limits: LimitsAround): Row {
  const { promptLength, newTokens, weights } = config;
  const decodeTokensPerSecond = median(result.decode);
  const bound = boundOf(decodeStepWork(shape, { batch, context: meanContext(promptLength, newTokens), weights }), medianLimits(limits));
  const limitTokensPerSecond = batch / bound.seconds;
  return {
    batch, promptLength, newTokens,
    prefillTokensPerSecond: median(result.prefill),
    decodeTokensPerSecond,
    millisecondsPerStep: (1000 * batch) / decodeTokensPerSecond,
    limitTokensPerSecond,
    shareOfLimit: decodeTokensPerSecond / limitTokensPerSecond,
    boundBy: bound.boundBy,
    peakBytes: result.peakBytes,
    plannedBytes: weightBytes(shape, weights) + cacheBytes(shape, batch * (promptLength + newTokens)),
    javascriptShare: result.javascriptShare,
    ...peerColumns(result, ["decode", "prefill"]),
    ...limitColumns(limits),
  };
}
