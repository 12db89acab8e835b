import { writeFileSync } from "node:fs";
import type { CommandSpec } from "../src/config/command.ts";
import { boolean, choice, type ConfigOf, group, integer, path } from "../src/config/fields.ts";
import { flagLayer, resolve } from "../src/config/resolve.ts";
import { ConfigError } from "../src/errors.ts";
import { modelField, ppoPeerFields, runFields, trainingFields } from "./lib/flags.ts";
import { checkContext } from "./lib/generation-run.ts";
import { betweenLimits, limitColumns, type LimitsAround, medianLimits } from "./lib/limits.ts";
import { comparePpo, type PpoComparison, ppoPeerColumns, responseTokens, stageSeconds } from "./lib/ppo-compare.ts";
import { openPpoPeers } from "./lib/ppo-peers.ts";
import { dataBatches, type PromptBatches, randomBatches } from "./lib/ppo-prompts.ts";
import { checkPpoLengths, type PpoIteration, secondsOfIteration } from "./lib/ppo-run.ts";
import type { Row } from "./lib/report.ts";
import { iterationSeconds, type ModelShape } from "./lib/roofline.ts";
import { openRun } from "./lib/run.ts";
import { stageChart } from "./lib/stage-chart.ts";
import { median } from "./lib/statistics.ts";

const fields = {
  ...modelField,
  ...group("Iteration:", {
    batch: integer({ default: 4, min: 1, help: "prompts of an iteration, with one answer each" }),
    promptLength: integer({
      default: 256, min: 1, aliases: ["max-prompt-length"],
      help: "tokens of every prompt; with --data those of the longest, which DeepSpeed-Chat pads all to",
    }),
    newTokens: integer({ default: 128, min: 2, help: "tokens of every answer, or of the longest" }),
    untilEnd: boolean({ default: false, help: "let an answer end where the model ends it, at --new-tokens at the latest" }),
    data: path({ hint: "<file>", optional: true, help: "JSONL file to take prompts from, also .gz and .zst; random ones when left out" }),
    format: choice(["chat", "text"], {
      default: "chat",
      help: "how dialogues of --data are written: with the model's template, or as Human: and Assistant:, as in DeepSpeed-Chat",
    }),
    ...trainingFields,
  }),
  ...ppoPeerFields,
  ...runFields,
  ...group("Run:", {
    chart: path({ hint: "<file.svg>", optional: true, help: "picture to write: the stages of an iteration, ours beside the others'" }),
  }),
};

type Config = ConfigOf<typeof fields>;

/** `bench ppo-iteration`: samples per second of whole iterations of PPO, and their stages. */
export const ppoIterationCommand: CommandSpec = {
  name: "ppo-iteration",
  summary: "PPO samples per second, and the stages of an iteration",
  description: "Runs whole iterations of PPO: rollout, scoring, one pass with one optimizer step of actor and of critic. All four models " +
    "have one size: critic and reward model are the model's transformer with a random head. The limit is the time of reading weights " +
    "and cache in generation and of the products everywhere; attention counts in generation only, recomputation not at all.",
  examples: [
    "npm run bench -- ppo-iteration --model SmolLM2-135M-Instruct --dtype bfloat16 --batch 4",
    "npm run bench -- ppo-iteration --model SmolLM2-135M-Instruct --peers build/peers --peer-dschat DeepSpeed-Chat --chart ppo.svg",
    "npm run bench -- ppo-iteration --model SmolLM2-135M-Instruct --data hh-rlhf.jsonl.gz --format text --batch 16 --json",
    "npm run bench -- ppo-iteration --model SmolLM2-135M-Instruct --data hh-rlhf.jsonl.gz --batch 16 --until-end --json",
  ],
  fields,
  run: async (flags) => {
    const config = resolve({ name: "ppo-iteration", fields }, [flagLayer(flags)]);
    checkPpoLengths(config);
    if (config.data === undefined && flags["format"] !== undefined) {
      throw new ConfigError("--format: needs --data, whose dialogues it is about");
    }
    const peers = openPpoPeers(config, flags);
    const { shape, dtype, report } = await openRun("ppo-iteration", config);
    checkContext(shape, config.promptLength, config.newTokens);
    const batches = await openBatches(config, shape);
    const measure = () => comparePpo({ ...config, dtype }, batches, peers, config.data === undefined);
    for await (const { result, limits } of betweenLimits(dtype, [config], measure)) {
      report.add(rowOf(config, shape, batches.slice(1), result, limits));
      if (config.chart !== undefined) writeFileSync(config.chart, chartOf(result, config.batch));
    }
    report.end();
    return 0;
  },
};

function openBatches(config: Config, { vocabSize }: ModelShape): Promise<PromptBatches> | PromptBatches {
  const counts = { batches: config.repeats + 1, batch: config.batch };
  return config.data === undefined ? randomBatches(counts, config.promptLength, vocabSize) : dataBatches(counts, config.data, config);
}

function rowOf(config: Config, shape: ModelShape, batches: PromptBatches, result: PpoComparison, limits: LimitsAround): Row {
  const { batch, untilEnd, newTokens } = config;
  const iterations = result.ours.flatMap((run) => run.iterations);
  const seconds = stageSeconds(iterations);
  const shares = iterations.map((iteration, i) => {
    const promptLengths = (batches[i] ?? []).map((prompt) => prompt.length);
    return sharesOfLimit(iteration, iterationSeconds(shape, { ...iteration, promptLengths }, medianLimits(limits)));
  });
  const share = (of: keyof ReturnType<typeof sharesOfLimit>) => median(shares.map((each) => each[of]));
  return {
    batch, newTokens, untilEnd: String(untilEnd), checkpointing: String(config.checkpointing),
    promptTokens: median(batches.map((prompts) => prompts.reduce((sum, prompt) => sum + prompt.length, 0))),
    responseTokens: responseTokens(iterations),
    samplesPerSecond: batch / median(iterations.map(secondsOfIteration)),
    secondsGenerate: seconds.generate, secondsScore: seconds.score, secondsTrain: seconds.train, secondsSwitch: seconds.switch,
    shareOfLimit: share("all"), shareOfLimitGenerate: share("generate"), shareOfLimitScore: share("score"),
    shareOfLimitTrain: share("train"),
    peakResidentBytes: Math.max(...result.ours.map((run) => run.peakResidentBytes)),
    ...ppoPeerColumns(result, batch),
    ...limitColumns(limits),
  };
}

/** The least seconds over those that were needed, by stage. */
function sharesOfLimit(iteration: PpoIteration, { generate, score, train }: ReturnType<typeof iterationSeconds>) {
  return {
    all: (generate + score + train) / secondsOfIteration(iteration),
    generate: generate / iteration.generateSeconds, score: score / iteration.scoreSeconds, train: train / iteration.trainSeconds,
  };
}

const names = { dschat: "DeepSpeed-Chat", trl: "TRL" } as const;

function chartOf({ ours, peers }: PpoComparison, batch: number): string {
  const all = [
    { name: "tschat", iterations: ours.flatMap((run) => run.iterations) },
    ...peers.map(({ name, results }) => ({ name: names[name], iterations: results.flatMap((run) => run.iterations) })),
  ];
  const bars = all.map(({ name, iterations }) => ({ name, seconds: stageSeconds(iterations) }));
  return stageChart(bars, `Seconds of one PPO iteration, ${batch} prompts`);
}
