import { writeFolder } from "../checkpoint/atomic.ts";
import { heldOutOf, sourcesOf } from "../config/common.ts";
import { loraChoice } from "../config/lora.ts";
import type { Metrics, StepRun } from "../config/step.ts";
import { trainingBatches } from "../data/batches.ts";
import { tokenCacheFor } from "../data/cache/token-cache.ts";
import type { PreferencePair } from "../data/encode.ts";
import { checkDataFiles, prepareData } from "../data/prepare.ts";
import { preferenceEncoder } from "../data/record-encoders.ts";
import { reportData, withinContext } from "../data/report.ts";
import { take } from "../data/samples.ts";
import { microBatches } from "../engine/micro-batches.ts";
import { engineOptions, TrainEngine } from "../engine/train-engine.ts";
import { type LearningRates, trainingLoop } from "../engine/training-loop.ts";
import { moments } from "../metrics/moments.ts";
import { padRight } from "../model/packing.ts";
import { RewardModel, type ScoreScale } from "../model/reward-model.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { RewardConfig } from "./config.ts";
import { lastTokenLoss, pairwiseLoss } from "./pairwise-loss.ts";

/** Results of step 2, on held-out pairs. */
export interface RewardSummary {
  readonly steps: number;
  readonly trainPairs: number;
  readonly evalPairs: number;
  /** Share of pairs whose chosen answer has the higher score. */
  readonly accuracyBefore: number;
  readonly accuracyAfter: number;
  /** Mean of chosen minus rejected score, before scaling. */
  readonly marginAfter: number;
  /** Of the scores of all held-out answers, chosen and rejected; PPO sees (score - mean) / std. */
  readonly scoreScale: ScoreScale;
}

/** Scores of the two answers of pairs, in order. */
interface PairScores {
  chosen: number[];
  rejected: number[];
}

/** Step 2: trains a score head and its decoder on preference pairs. */
export async function trainReward(config: RewardConfig, run: StepRun): Promise<RewardSummary> {
  checkDataFiles(sourcesOf(config), "reward", heldOutOf(config));
  const tokenizer = await Tokenizer.load(config.model);
  const model = await RewardModel.withNewHead(config.model, { ...config, head: { seed: config.seed } });
  const maxSeqLen = withinContext(run.note, "maxSeqLen", config.maxSeqLen, model.spec.maxPositions);
  const data = await prepareData(sourcesOf(config), "reward", {
    seed: config.seed, split: config.dataSplit, ...heldOutOf(config), encoder: preferenceEncoder(tokenizer, { ...config, maxSeqLen }),
    cache: tokenCacheFor(config.dataCache, tokenizer, run.note), note: run.note,
  });
  const { train, heldOut } = data;
  reportData(run.note, "pairs", data);
  if (config.loraRank > 0) model.addLora(loraChoice(config.loraRank, config.seed, config));
  run.note(`model: ${model.describe()}`);
  const engine = new TrainEngine(model, engineOptions(config));
  const padId = tokenizer.padTokenId;
  let scored = { step: -1, scores: { chosen: [], rejected: [] } as PairScores };
  const heldOutScores = (): PairScores => {
    if (scored.step !== engine.numSteps) {
      scored = { step: engine.numSteps, scores: scorePairs(model, heldOut, config.microBatchTokens) };
    }
    return scored.scores;
  };
  const scale = () => (config.normaliseScores ? scaleOf(heldOutScores()) : { mean: 0, std: 1 });
  const save = (folder: string) => writeFolder(folder, async (temporary) => {
    model.scale = scale();
    await engine.save(temporary, { padTokenId: padId });
    model.scale = { mean: 0, std: 1 }; // training goes on with raw scores
    await tokenizer.save(temporary);
  });
  let margin = 0;
  const { before, after, steps } = await trainingLoop(config, run, {
    size: data.epochSize,
    batches: (numEpochs) => trainingBatches({
      size: train.length, sets: data.sets, batchSize: config.miniBatchSize, seed: config.seed, numEpochs,
    }),
    shown: ["loss", "accuracy", "evalAccuracy", "tokensPerSecond"],
    update: (rows, ...rates) => update(engine, take(train, rows), { ...config, padId }, rates),
    evaluate: () => {
      const metrics = evaluation(heldOutScores());
      margin = metrics.evalMargin;
      return metrics;
    },
    save,
  });
  return {
    steps, trainPairs: train.length, evalPairs: heldOut.length,
    accuracyBefore: before.evalAccuracy ?? Number.NaN, accuracyAfter: after.evalAccuracy ?? Number.NaN, marginAfter: margin,
    scoreScale: scale(),
  };
}

/** What `update` takes of the configuration, and the token that rows of DeepSpeed-Chat's objective are padded with. */
export type UpdateConfig =
  Pick<RewardConfig, "objective" | "centerRewards" | "numPaddingAtBeginning" | "microBatchTokens"> & { padId: number };

/** One optimizer step: the mean loss over all pairs of the minibatch, however it is cut into micro-batches. */
export function update(
  engine: TrainEngine<RewardModel>, pairs: readonly PreferencePair[], config: UpdateConfig, rates: LearningRates,
): Metrics {
  const begin = performance.now();
  let loss = 0, correct = 0;
  for (const batch of microBatches(pairs, numTokens, config.microBatchTokens)) {
    const objective = config.objective === "last-token" ? lastTokenObjective : originalObjective;
    const forward = () => objective(engine.model, batch, config, pairs.length);
    tidy(() => {
      const result = forward();
      loss += engine.backward(result.loss, forward);
      correct += noGrad(() => result.chosenScores.greater(result.rejectedScores).sum().item());
    });
  }
  const gradientNorm = engine.step(...rates);
  const tokens = pairs.reduce((sum, pair) => sum + numTokens(pair), 0);
  const tokensPerSecond = tokens / ((performance.now() - begin) / 1000);
  return { loss, accuracy: correct / pairs.length, gradientNorm, skippedSteps: engine.skippedSteps, tokens, tokensPerSecond };
}

interface PairResult {
  loss: Tensor;
  chosenScores: Tensor;
  rejectedScores: Tensor;
}

function lastTokenObjective(
  model: RewardModel, pairs: readonly PreferencePair[], { centerRewards }: UpdateConfig, totalPairs: number,
): PairResult {
  const scores = model.scoreRows([...pairs.map(({ chosen }) => chosen), ...pairs.map(({ rejected }) => rejected)]);
  const [chosenScores, rejectedScores] = [scores.slice(0, 0, pairs.length), scores.slice(0, pairs.length)];
  const loss = lastTokenLoss({ chosenScores, rejectedScores, centerCoefficient: centerRewards, totalPairs });
  return { loss, chosenScores, rejectedScores };
}

/** DeepSpeed-Chat's objective also reads scores on padding, so here, and only here, rows are padded to one width. */
function originalObjective(
  model: RewardModel, pairs: readonly PreferencePair[], config: UpdateConfig, totalPairs: number,
): PairResult {
  const { padId, numPaddingAtBeginning } = config;
  const width = Math.max(...pairs.map(({ chosen, rejected }) => Math.max(chosen.length, rejected.length)));
  const padded = (rows: readonly (readonly number[])[]) =>
    rows.map((row) => [...row, ...new Array<number>(width - row.length).fill(padId)]);
  const chosen = padded(pairs.map((pair) => pair.chosen)), rejected = padded(pairs.map((pair) => pair.rejected));
  const rewards = model.values([...chosen, ...rejected]).reshape([2 * pairs.length, width]);
  return pairwiseLoss({
    chosen: padRight(chosen, width, padId, "int64"), rejected: padRight(rejected, width, padId, "int64"),
    chosenRewards: rewards.slice(0, 0, pairs.length), rejectedRewards: rewards.slice(0, pairs.length),
    padId, numPaddingAtBeginning, parity: "deepspeed-chat", totalPairs,
  });
}

/** Scores of all pairs, without gradients. */
function scorePairs(model: RewardModel, pairs: readonly PreferencePair[], microBatchTokens: number): PairScores {
  return noGrad(() => {
    const scores: PairScores = { chosen: [], rejected: [] };
    for (const batch of microBatches(pairs, numTokens, microBatchTokens)) {
      const both = model.scoreRows([...batch.map(({ chosen }) => chosen), ...batch.map(({ rejected }) => rejected)]).numbers();
      scores.chosen.push(...both.slice(0, batch.length));
      scores.rejected.push(...both.slice(batch.length));
    }
    return scores;
  });
}

function evaluation({ chosen, rejected }: PairScores) {
  const margins = chosen.map((score, i) => score - (rejected[i] ?? 0));
  return {
    evalAccuracy: margins.filter((margin) => margin > 0).length / margins.length,
    evalMargin: moments(margins).mean, evalChosenScore: moments(chosen).mean, evalRejectedScore: moments(rejected).mean,
  };
}

/** Chosen and rejected together: with the chosen ones alone a good reward model would push everything else to the reward clip. */
function scaleOf({ chosen, rejected }: PairScores): ScoreScale {
  const { mean, variance } = moments([...chosen, ...rejected]);
  return { mean, std: Math.sqrt(variance) || 1 };
}

function numTokens({ chosen, rejected }: PreferencePair): number {
  return chosen.length + rejected.length;
}
