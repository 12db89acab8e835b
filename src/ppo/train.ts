import { writeFolder } from "../checkpoint/atomic.ts";
import { heldOutOf, sourcesOf } from "../config/common.ts";
import type { StepRun } from "../config/step.ts";
import { trainingBatches } from "../data/batches.ts";
import { tokenCacheFor } from "../data/cache/token-cache.ts";
import type { DrawnSet } from "../data/drawn-sets.ts";
import type { PromptSample } from "../data/encode.ts";
import { checkDataFiles, prepareData } from "../data/prepare.ts";
import { promptEncoder } from "../data/record-encoders.ts";
import { reportData, withinContext } from "../data/report.ts";
import { eachOf, type Samples, take } from "../data/samples.ts";
import { GenerationStopped } from "../engine/generation.ts";
import { distinct } from "../metrics/distinct.ts";
import { ConfigError, Interrupted } from "../errors.ts";
import { scheduleFactor } from "../optim/schedule.ts";
import type { PpoConfig } from "./config.ts";
import { evaluatePolicy, type MeanWithError, meanWithError, type PolicyEvaluation } from "./evaluate.ts";
import { PpoTrainer } from "./ppo-trainer.ts";
import type { Experience } from "./records.ts";
import { RlhfEngine } from "./rlhf-engine.ts";

/** Figures on held-out prompts, one sampled answer each. */
export interface PolicyFigures {
  readonly reward: MeanWithError;
  /** Nats per answer. */
  readonly kl: MeanWithError;
  /** Tokens per answer. */
  readonly responseLength: number;
  /** Share of answers that ended by themselves. */
  readonly finished: number;
  /** Share of different words in all answers together: low where answers repeat each other or themselves. */
  readonly distinct1: number;
  /** The same of pairs of words. */
  readonly distinct2: number;
}

/** One held-out prompt with its answers. */
export interface AnswerPair {
  readonly prompt: string;
  readonly before: string;
  readonly after: string;
}

/** Results of step 3. */
export interface PpoSummary {
  readonly iterations: number;
  readonly trainPrompts: number;
  readonly evalPrompts: number;
  readonly before: PolicyFigures;
  readonly after: PolicyFigures;
  /** Reward after minus before, paired by prompt. */
  readonly rewardDifference: MeanWithError;
  /** The first held-out prompts with what the actor answered before and after. */
  readonly examples: readonly AnswerPair[];
}

/** Answers kept in the summary. */
const NUM_EXAMPLES = 4;

/** Answers shown per iteration in `samples.jsonl`. */
const SAMPLES_PER_ITERATION = 4;

/** Step 3: PPO against the reward model. The stages of an iteration are in `ppo-trainer.ts`, each a file of this folder. */
export async function trainPpo(config: PpoConfig, run: StepRun): Promise<PpoSummary> {
  checkDataFiles(sourcesOf(config), "ppo", heldOutOf(config));
  const rlhf = await RlhfEngine.load(config);
  const prompts = await openPrompts(config, rlhf, run);
  for (const note of rlhf.notes) run.note(note);
  run.note(sizesOf(rlhf));
  const trainer = new PpoTrainer(rlhf, config);
  const perEpoch = Math.floor(prompts.epochSize / config.rolloutBatchSize);
  const totalSteps = config.maxSteps ?? config.epochs * perEpoch;
  run.start(totalSteps, ["reward", "evalReward", "kl", "responseLength", "entropy", "clipFraction", "rolloutTokensPerSecond"]);

  const save = (folder: string) => writeFolder(folder, async (temporary) => {
    await rlhf.actor.save(temporary);
    await rlhf.tokenizer.save(temporary);
  });
  const evaluate = () => evaluatePolicy(rlhf, prompts.heldOut, { ...config, stopRequested: run.stopRequested });
  let step = 0;
  try {
    const before = await evaluate();
    logEvaluation(run, step, before);
    let evaluated = { step, evaluation: before };
    const batches = trainingBatches({
      size: prompts.train.length, sets: prompts.sets, batchSize: config.rolloutBatchSize, seed: config.seed,
      numEpochs: Math.ceil(totalSteps / Math.max(1, perEpoch)), dropLast: true,
    });
    for (const { rows } of batches) {
      if (step === totalSteps) break;
      const experience = await trainer.generateExperience(take(prompts.train, rows), run.stopRequested);
      const learningRateFactor = scheduleFactor(step, { ...config, totalSteps });
      const updatesActor = step >= config.criticWarmupSteps;
      const { policyLoss, valueLoss, metrics } = trainer.trainRlhf(experience, { learningRateFactor, updatesActor });
      step++;
      const actorLearningRate = config.actorLearningRate * learningRateFactor;
      if (step % config.logEvery === 0) run.log(step, { policyLoss, valueLoss, ...metrics, actorLearningRate });
      sampleTexts(run, step, experience, rlhf);
      if (config.evalEvery > 0 && step % config.evalEvery === 0) {
        evaluated = { step, evaluation: await evaluate() };
        logEvaluation(run, step, evaluated.evaluation);
      }
      if (run.stopRequested()) throw new GenerationStopped("a signal came");
      if (config.saveEvery > 0 && step % config.saveEvery === 0) await save(run.checkpointFolder(step));
      await new Promise(setImmediate); // lets the log and the terminal be written
    }
    const after = evaluated.step === step ? evaluated.evaluation : await evaluate();
    if (evaluated.step !== step) logEvaluation(run, step, after);
    await save(run.modelFolder);
    return summarize(step, prompts, before, after, run);
  } catch (error) {
    if (!(error instanceof GenerationStopped)) throw error;
    await save(run.checkpointFolder(step));
    throw new Interrupted(step, run.checkpointFolder(step));
  }
}

function sizesOf({ actor: { model }, critic, rewardModel }: RlhfEngine): string {
  const millions = (count: number) => `${(count / 1e6).toFixed(1)} M`;
  const ofActor = `${millions(model.numParameters)} parameters`;
  const adapters = [["actor", model.lora], ["critic", critic.model.lora]].flatMap(([whose, lora]) => (lora ? [`; ${whose}: ${lora}`] : []));
  const [ofCritic, ofReward] = [critic.model.numParameters, rewardModel.numParameters].map(millions);
  const others = ofCritic === ofReward ? `critic and reward model: ${ofReward}` : `critic: ${ofCritic}; reward model: ${ofReward}`;
  return `actor: ${ofActor}; ${others}; ${model.dtype}${adapters.join("")}`;
}

interface Prompts {
  readonly train: Samples<PromptSample>;
  /** Samples of an epoch, and how they are drawn if not each once. */
  readonly epochSize: number;
  readonly sets: readonly DrawnSet[] | undefined;
  readonly heldOut: readonly PromptSample[];
  /** Last user message of each held-out prompt. */
  readonly texts: readonly string[];
}

/** The prompts to train on and those to look at. */
async function openPrompts(config: PpoConfig, rlhf: RlhfEngine, run: StepRun): Promise<Prompts> {
  const { maxPositions } = rlhf.actor.model.spec;
  const maxPromptLen = withinContext(run.note, "maxPromptLen", config.maxPromptLen, maxPositions - 1); // an answer has a token at least
  const data = await prepareData(sourcesOf(config), "ppo", {
    seed: config.seed, split: config.dataSplit, ...heldOutOf(config), encoder: promptEncoder(rlhf.tokenizer, { ...config, maxPromptLen }),
    cache: tokenCacheFor(config.dataCache, rlhf.tokenizer, run.note), note: run.note,
  });
  const { train, heldOut, epochSize, sets } = data;
  reportData(run.note, "prompts", data);
  if (epochSize < config.rolloutBatchSize) {
    throw new ConfigError(
      `--rollout-batch-size: a rollout takes ${config.rolloutBatchSize} prompts, there are ${epochSize} to train on; ` +
        "lower it or add prompts",
    );
  }
  await rlhf.rewardReader?.check(eachOf(train));
  await rlhf.rewardReader?.check(heldOut);
  return {
    train, epochSize, sets, heldOut,
    texts: heldOut.map(({ text }) => text),
  };
}

function logEvaluation(run: StepRun, step: number, evaluation: PolicyEvaluation): void {
  const { reward, kl, responseLength, finished } = figuresOf(evaluation);
  run.log(step, {
    evalReward: reward.mean, evalRewardError: reward.standardError, evalKl: kl.mean, evalResponseLength: responseLength,
    evalFinished: finished,
  });
}

function figuresOf({ rollout, texts, scores, kl }: PolicyEvaluation): PolicyFigures {
  const { responses, finishReasons } = rollout;
  return {
    reward: meanWithError(scores),
    kl: meanWithError(kl),
    responseLength: responses.reduce((sum, response) => sum + response.length, 0) / responses.length,
    finished: finishReasons.filter((reason) => reason === "eos").length / finishReasons.length,
    distinct1: distinct(texts, 1),
    distinct2: distinct(texts, 2),
  };
}

function sampleTexts(run: StepRun, step: number, experience: Experience, { tokenizer }: RlhfEngine): void {
  const { prompts, responses, scores, finishReasons } = experience;
  const textOf = (tokens: readonly number[] = []) => tokenizer.decode([...tokens]);
  for (const [i, score] of scores.slice(0, 0, SAMPLES_PER_ITERATION).numbers().entries()) {
    run.sample({ step, prompt: textOf(prompts[i]), response: textOf(responses[i]), score, finishReason: finishReasons[i] });
  }
}

function summarize(iterations: number, prompts: Prompts, before: PolicyEvaluation, after: PolicyEvaluation, run: StepRun): PpoSummary {
  const pairs = after.texts.map((text, i) => ({ prompt: prompts.texts[i] ?? "", before: before.texts[i] ?? "", after: text }));
  for (const [i, pair] of pairs.entries()) run.sample({ heldOut: i, ...pair, scoreBefore: before.scores[i], scoreAfter: after.scores[i] });
  return {
    iterations, trainPrompts: prompts.train.length, evalPrompts: prompts.heldOut.length,
    before: figuresOf(before), after: figuresOf(after),
    rewardDifference: meanWithError(after.scores.map((score, i) => score - (before.scores[i] ?? 0))),
    examples: pairs.slice(0, NUM_EXAMPLES),
  };
}
