import type { CommandSpec } from "../src/config/command.ts";
import { type ConfigOf, integer } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { modelField, ppoPeerFields, promptLengthField, runFields, trainingFields } from "./lib/flags.ts";
import { checkContext } from "./lib/generation-run.ts";
import { comparePpo, ppoPeerColumns } from "./lib/ppo-compare.ts";
import { openPpoPeers, type PpoPeer } from "./lib/ppo-peers.ts";
import { randomBatches } from "./lib/ppo-prompts.ts";
import { checkPpoLengths, secondsOfIteration } from "./lib/ppo-run.ts";
import type { Row } from "./lib/report.ts";
import { gradientBytes, type ModelShape, trainedBytes } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median } from "./lib/statistics.ts";
import { measureTraining, secondsOfStep } from "./lib/train-run.ts";

const fields = {
  ...modelField,
  batch: integer({ default: 4, min: 1, help: "sequences of the training step, and prompts of the iteration" }),
  ...promptLengthField,
  newTokens: integer({
    default: 128, min: 2, help: "tokens of every answer; the training step's sequences are as long as prompt and answer",
  }),
  microBatchTokens: trainingFields.microBatchTokens,
  ...ppoPeerFields,
  ...runFields,
};

type Config = ConfigOf<typeof fields> & { dtype: "float32" | "bfloat16" };

/** `bench memory`: peak memory of a training step and of a PPO iteration, with checkpointing and without. */
export const memoryCommand: CommandSpec = {
  name: "memory",
  summary: "peak memory of a training step and a PPO iteration",
  description: "Peak resident memory over what was there before the models were loaded, beside what must be there: weights, gradients, " +
    "AdamW's states and, of bfloat16 weights, float32 masters. Each measurement has a process of its own. Other engines run the " +
    "iteration; their peak and ours are those of the whole process.",
  examples: [
    "npm run bench -- memory --model SmolLM2-135M-Instruct --dtype bfloat16 --batch 4",
    "npm run bench -- memory --model SmolLM2-135M-Instruct --peers build/peers --against deepspeed-chat --peer-dschat DeepSpeed-Chat",
  ],
  fields,
  run: async (flags) => {
    const settings = resolve({ name: "memory", fields }, [flagLayer(flags)]);
    checkPpoLengths(settings);
    const peers = openPpoPeers(settings, flags);
    const { shape, dtype, report } = await openRun("memory", settings);
    checkContext(shape, settings.promptLength, settings.newTokens);
    const config = { ...settings, dtype };
    for (const checkpointing of [false, true]) report.add(await trainRow(config, shape, checkpointing));
    report.add(await ppoRow(config, shape, false, peers));
    report.add(await ppoRow(config, shape, true, []));
    report.end();
    return 0;
  },
};

async function trainRow(config: Config, shape: ModelShape, checkpointing: boolean): Promise<Row> {
  const length = config.promptLength + config.newTokens;
  const { steps, baseBytes, peakResidentBytes } = await measureTraining({ ...config, length, checkpointing, loraRank: 0 });
  const memory = { baseBytes, peakResidentBytes, plannedBytes: trainedBytes(shape.elementBytes) * shape.parameters };
  return rowOf("training step", checkpointing, median(steps.map(secondsOfStep)), memory);
}

async function ppoRow(config: Config, shape: ModelShape, checkpointing: boolean, peers: readonly PpoPeer[]): Promise<Row> {
  const batches = randomBatches({ batches: config.repeats + 1, batch: config.batch }, config.promptLength, shape.vocabSize);
  const result = await comparePpo({ ...config, untilEnd: false, checkpointing }, batches, peers, true);
  const iterations = result.ours.flatMap((run) => run.iterations);
  // Actor and critic train, reference and reward model do not; of both gradients one is there at a time.
  const trainedAndFrozen = (trainedBytes(shape.elementBytes) + shape.elementBytes) * (shape.parameters + shape.decoderParameters);
  const plannedBytes = trainedAndFrozen - gradientBytes * shape.decoderParameters;
  const memory = {
    plannedBytes,
    baseBytes: Math.max(...result.ours.map((run) => run.baseBytes)),
    peakResidentBytes: Math.max(...result.ours.map((run) => run.peakResidentBytes)),
  };
  const row = rowOf("PPO iteration", checkpointing, median(iterations.map(secondsOfIteration)), memory);
  return { ...row, ...ppoPeerColumns(result, config.batch) };
}

function rowOf(
  work: string, checkpointing: boolean, seconds: number,
  { plannedBytes, baseBytes, peakResidentBytes }: { plannedBytes: number; baseBytes: number; peakResidentBytes: number },
): Row {
  const peakBytes = peakResidentBytes - baseBytes;
  return {
    work, checkpointing: String(checkpointing), seconds, plannedBytes, peakBytes, plannedRatio: peakBytes / plannedBytes, peakResidentBytes,
  };
}
