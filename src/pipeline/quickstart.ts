import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { RunStep } from "../config/step.ts";
import type { QuickstartConfig, QuickstartSummary } from "./config.ts";
import { pipelineReport } from "./report.ts";
import { resolveTrain } from "./resolve.ts";
import { type PipelineSummary, trainAll } from "./train.ts";

/** The data that comes with tschat; src/pipeline and dist/pipeline lie equally deep. */
const dataFolder = fileURLToPath(new URL("../../examples/quickstart", import.meta.url));

/** Standard errors by which the held-out reward must rise. */
const REQUIRED_ERRORS = 3;

/**
 * Trains SmolLM2-135M-Instruct to give short, direct, polite answers: SFT, reward model, PPO with settings that fit a
 * model of this size into minutes on two cores. Prints the table and says whether the held-out reward rose.
 */
export async function quickstart(config: QuickstartConfig, runStep: RunStep): Promise<QuickstartSummary & PipelineSummary> {
  const data = (name: string) => join(dataFolder, `${name}.jsonl`);
  const { model, output, seed, device, threads, force } = config;
  const train = resolveTrain({
    flags: {
      model, output, seed, device, force, ...(threads === undefined ? {} : { threads }),
      data: [data("preferences")], evalData: data("preferences-heldout"),
      "sft.data": [data("demonstrations")], "sft.evalData": data("demonstrations-heldout"),
      ...settings,
    },
    file: undefined,
  });
  const summary = await trainAll(train, runStep);
  if (!summary.ppo || !train.ppo) throw new Error("internal: the quickstart ran without PPO");
  const { mean, standardError } = summary.ppo.rewardDifference;
  const rewardRose = mean > REQUIRED_ERRORS * standardError;
  process.stdout.write(`\n${pipelineReport(summary, train.ppo.output)}\n`);
  if (!rewardRose) {
    process.stdout.write(`\nThe reward did not rise by ${REQUIRED_ERRORS} standard errors: something is wrong with this run.\n`);
  }
  return { ...summary, rewardRose };
}

/** What differs from the defaults, which are made for larger models and longer runs. */
const settings = {
  "sft.maxSteps": 14, "sft.learningRate": 3e-4, "sft.miniBatchSize": 16,
  "reward.maxSteps": 8, "reward.learningRate": 2e-5, "reward.miniBatchSize": 16,
  // 16 iterations have to show an effect on a model of this size: a high rate, a critic that starts by saying nothing, and answers
  // sampled a little below temperature 1, where so small a model still makes sense.
  "ppo.maxSteps": 16, "ppo.actorLearningRate": 5e-5, "ppo.criticLearningRate": 5e-5, "ppo.criticHead": "zero", "ppo.adamEpsilon": 1e-8,
  "ppo.rolloutBatchSize": 16, "ppo.miniBatchSize": 16, "ppo.temperature": 0.7, "ppo.maxNewTokens": 48, "ppo.maxPromptLen": 128,
  "ppo.schedule": "constant", "ppo.warmupSteps": 2,
} as const;
