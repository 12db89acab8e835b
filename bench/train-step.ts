import type { CommandSpec } from "../src/config/command.ts";
import { choices, group, integer, text } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { modelField, peersField, runFields, trainingFields, wholeNumbers } from "./lib/flags.ts";
import { inTurn, type Turns } from "./lib/in-turn.ts";
import { betweenLimits, limitColumns, medianLimits } from "./lib/limits.ts";
import type { Row } from "./lib/report.ts";
import { forwardFlops, type TokenCounts, trainFlops } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { median, medianRatio } from "./lib/statistics.ts";
import { openTrainPeers, type PeerSteps, type TrainPeerName } from "./lib/train-peers.ts";
import { checkLength, measureTraining, secondsOfStep, type StepSeconds, type TrainTimes, type TrainWorkload } from "./lib/train-run.ts";

const fields = {
  ...modelField,
  batch: text({ default: "4", hint: "<n,n,...>", help: "sequences of an optimizer step; a row for each" }),
  length: text({ default: "384", hint: "<n,n,...>", help: "tokens of every sequence; a row for each" }),
  ...trainingFields,
  loraRank: integer({ default: 0, min: 0, help: "rank of adapters on all linears, which then train alone; 0 trains the weights" }),
  ...group("Other engines:", {
    ...peersField,
    against: choices(["hf"], { default: ["hf"], help: "which of them: transformers in float32, bfloat16 and with autocast" }),
  }),
  ...runFields,
};

/** `bench train-step`: tokens per second of forward, backward and AdamW, beside the limit of the machine. */
export const trainStepCommand: CommandSpec = {
  name: "train-step",
  summary: "training tokens per second, beside the machine's limit",
  description: "Takes optimizer steps of supervised training on random tokens, all of which count. The limit counts six operations a " +
    "weight and token at the speed of a large product, a tied head once, neither attention nor recomputation. The growth is that of the " +
    "time per token over the first row.",
  examples: [
    "npm run bench -- train-step --model SmolLM2-135M-Instruct --dtype bfloat16 --batch 4 --length 384",
    "npm run bench -- train-step --model SmolLM2-135M-Instruct --peers build/peers --against hf",
    "npm run bench -- train-step --model SmolLM2-135M-Instruct --batch 2,4,8,16,32 --length 512 --repeats 1",
    "npm run bench -- train-step --model SmolLM2-135M-Instruct --batch 1 --length 1024,2048,4096,8192 --micro-batch-tokens 8192",
    "npm run bench -- train-step --model SmolLM2-135M-Instruct --checkpointing --json",
  ],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "train-step", fields }, [flagLayer(flags)]);
    const [batches, lengths] = [wholeNumbers("batch", config.batch), wholeNumbers("length", config.length)];
    const peers = openTrainPeers(config, flags);
    const { shape, dtype, report } = await openRun("train-step", config);
    for (const length of lengths) checkLength(shape, length, config.microBatchTokens);
    const cases = lengths.flatMap((length) => batches.map((batch) => ({ batch, length })));
    const measure = (each: (typeof cases)[number]) => compare({ ...config, ...each, dtype }, peers);
    // Frozen weights have no gradient, a third of the operations.
    const flopsOf = (counts: TokenCounts) => trainFlops(shape, counts) - (config.loraRank > 0 ? forwardFlops(shape, counts) : 0);
    let first: number | undefined;
    for await (const { each: { batch, length }, result, limits } of betweenLimits(dtype, cases, measure)) {
      const tokens = batch * length;
      const steps = result.ours.flatMap((run) => run.steps);
      const seconds = median(steps.map(secondsOfStep));
      first ??= seconds / tokens;
      report.add({
        batch, length, tokens, microBatchTokens: config.microBatchTokens, checkpointing: String(config.checkpointing),
        loraRank: config.loraRank,
        tokensPerSecond: tokens / seconds,
        ...secondsColumns(steps),
        shareOfLimit: flopsOf({ tokens, predicted: tokens }) / medianLimits(limits).flopsPerSecond / seconds,
        microsecondsPerToken: (1e6 * seconds) / tokens,
        growthRatio: seconds / tokens / first,
        javascriptShare: median(result.ours.map((run) => run.javascriptShare)),
        gcShare: median(result.ours.map((run) => run.gcShare)),
        peakResidentBytes: Math.max(...result.ours.map((run) => run.peakResidentBytes)),
        ...peerStepColumns(result, tokens),
        ...limitColumns(limits),
      });
    }
    report.end();
    return 0;
  },
};

/** Without peers one process takes all steps; with them, each turn of ours and theirs has a process of its own. */
function compare(workload: TrainWorkload, peers: ReturnType<typeof openTrainPeers>): Promise<Turns<TrainTimes, PeerSteps, TrainPeerName>> {
  const once = { ...workload, repeats: 1 };
  if (peers.length === 0) return inTurn(1, () => measureTraining(workload), []);
  return inTurn(workload.repeats, () => measureTraining(once), peers.map((peer) => peer(once)));
}

function secondsColumns(steps: readonly StepSeconds[]): Row {
  return {
    secondsForward: median(steps.map((step) => step.forwardSeconds)),
    secondsBackward: median(steps.map((step) => step.backwardSeconds)),
    secondsOptimizer: median(steps.map((step) => step.optimizerSeconds)),
  };
}

/** Each number format's speed and peak, and ours over the fastest of them. */
export function peerStepColumns({ ours, peers }: Turns<Pick<TrainTimes, "steps">, PeerSteps, TrainPeerName>, tokens: number): Row {
  const columns: Record<string, string | number> = {};
  const rates = ({ steps }: { steps: readonly StepSeconds[] }): number => tokens / median(steps.map(secondsOfStep));
  let fastest: { name: TrainPeerName; rates: number[] } | undefined;
  for (const { name, results } of peers) {
    const each = { name, rates: results.map(rates) };
    columns[`${name}TokensPerSecond`] = median(each.rates);
    columns[`${name}PeakResidentBytes`] = Math.max(...results.map((result) => result.peakResidentBytes));
    if (!fastest || median(each.rates) > median(fastest.rates)) fastest = each;
  }
  return fastest ? { ...columns, hfFastest: fastest.name, hfRatio: medianRatio(ours.map(rates), fastest.rates) } : {};
}
