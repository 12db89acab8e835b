import { writeFolder } from "../checkpoint/atomic.ts";
import { heldOutOf, sourcesOf } from "../config/common.ts";
import { loraChoice } from "../config/lora.ts";
import type { Metrics, StepRun } from "../config/step.ts";
import { trainingBatches } from "../data/batches.ts";
import { tokenCacheFor } from "../data/cache/token-cache.ts";
import type { SftSample } from "../data/encode.ts";
import { checkDataFiles, prepareData } from "../data/prepare.ts";
import { demonstrationEncoder } from "../data/record-encoders.ts";
import { reportData, withinContext } from "../data/report.ts";
import { take } from "../data/samples.ts";
import { microBatches } from "../engine/micro-batches.ts";
import { engineOptions, TrainEngine } from "../engine/train-engine.ts";
import { type LearningRates, trainingLoop } from "../engine/training-loop.ts";
import { CausalLM } from "../model/causal-lm.ts";
import { noGrad } from "../tensor/autograd.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { SftConfig } from "./config.ts";

/** Results of step 1, on held-out demonstrations. */
export interface SftSummary {
  readonly steps: number;
  readonly trainSamples: number;
  readonly evalSamples: number;
  /** exp of the mean negative log-likelihood per counted token. */
  readonly perplexityBefore: number;
  readonly perplexityAfter: number;
}

/** Step 1: fine-tunes a model on demonstrations; the loss counts the answers, or all tokens. */
export async function trainSft(config: SftConfig, run: StepRun): Promise<SftSummary> {
  const sftOnly = (config.sftOnlyData ?? []).map((path) => ({ path, steps: ["sft"] as const }));
  const sources = [...sourcesOf(config), ...sftOnly];
  checkDataFiles(sources, "sft", heldOutOf(config));
  const tokenizer = await Tokenizer.load(config.model);
  const model = await CausalLM.load(config.model, config);
  const maxSeqLen = withinContext(run.note, "maxSeqLen", config.maxSeqLen, model.spec.maxPositions);
  const data = await prepareData(sources, "sft", {
    seed: config.seed, split: config.dataSplit, ...heldOutOf(config), encoder: demonstrationEncoder(tokenizer, { ...config, maxSeqLen }),
    cache: tokenCacheFor(config.dataCache, tokenizer, run.note), note: run.note,
  });
  const { train, heldOut } = data;
  reportData(run.note, "demonstrations", data);
  if (config.loraRank > 0) model.addLora(loraChoice(config.loraRank, config.seed, config));
  run.note(`model: ${model.describe()}`);
  model.generationConfig = { ...model.generationConfig, eos_token_id: tokenizer.endOfTurnTokenId };
  const engine = new TrainEngine(model, engineOptions(config));
  const { before, after, steps } = await trainingLoop(config, run, {
    size: data.epochSize,
    batches: (numEpochs) => trainingBatches({
      size: train.length, sets: data.sets, batchSize: config.miniBatchSize, seed: config.seed, numEpochs,
    }),
    shown: ["loss", "evalPerplexity", "tokensPerSecond"],
    update: (rows, ...rates) => update(engine, take(train, rows), config, rates),
    evaluate: () => ({ evalPerplexity: perplexity(model, heldOut, config.microBatchTokens) }),
    save: (folder) => writeFolder(folder, async (temporary) => {
      await engine.save(temporary);
      await tokenizer.save(temporary);
    }),
  });
  return {
    steps, trainSamples: train.length, evalSamples: heldOut.length,
    perplexityBefore: before.evalPerplexity ?? Number.NaN, perplexityAfter: after.evalPerplexity ?? Number.NaN,
  };
}

/** One optimizer step: the mean over all counted tokens of the minibatch, however it is cut into micro-batches. */
export function update(
  engine: TrainEngine<CausalLM>, samples: readonly SftSample[], config: Pick<SftConfig, "microBatchTokens">, rates: LearningRates,
): Metrics {
  const begin = performance.now();
  const totalTokens = samples.reduce((sum, sample) => sum + countedTokens(sample), 0);
  let loss = 0;
  for (const batch of microBatches(samples, numTokens, config.microBatchTokens)) {
    const forward = () => logLikelihood(engine.model, batch).div(-totalTokens);
    loss += tidy(() => engine.backward(forward(), forward));
  }
  const gradientNorm = engine.step(...rates);
  const tokens = samples.reduce((sum, sample) => sum + sample.tokens.length, 0);
  const tokensPerSecond = tokens / ((performance.now() - begin) / 1000);
  return { loss, gradientNorm, skippedSteps: engine.skippedSteps, tokens, tokensPerSecond };
}

/** exp of the mean negative log-likelihood over the counted tokens of all samples. */
export function perplexity(model: CausalLM, samples: readonly SftSample[], microBatchTokens: number): number {
  return noGrad(() => {
    let sum = 0, count = 0;
    for (const batch of microBatches(samples, numTokens, microBatchTokens)) {
      sum += logLikelihood(model, batch).item();
      count += batch.reduce((total, sample) => total + countedTokens(sample), 0);
    }
    return Math.exp(-sum / count);
  });
}

/** Sum of the log-probabilities of all counted tokens: [] float32, nats. */
function logLikelihood(model: CausalLM, samples: readonly SftSample[]): Tensor {
  const counts = samples.map(({ lossMask }) => lossMask);
  return model.tokenLogprobs(samples.map(({ tokens }) => tokens), { counts }).logprobs.sum();
}

/** The first token of a row has nothing before it and never counts. */
function countedTokens({ lossMask }: SftSample): number {
  return lossMask.slice(1).filter(Boolean).length;
}

function numTokens({ tokens }: SftSample): number {
  return tokens.length;
}
