import { openCheckpoint } from "../../src/model/checkpoint-source.ts";
import { familyOf } from "../../src/model/families/registry.ts";
import { specOf } from "../../src/model/pretrained.ts";
import type { MachineLimits } from "./limits.ts";

/** What the arithmetic of a model's work needs to know. */
export interface ModelShape {
  /** Of one weight and of one number in the cache. */
  elementBytes: number;
  /** All weights. */
  parameters: number;
  /** All but a head of its own: what a critic shares with the model. */
  decoderParameters: number;
  /** Weights of the layers, which every token is multiplied with. */
  layerParameters: number;
  /** Weights of the head; the token table where it is tied. */
  headParameters: number;
  numLayers: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  vocabSize: number;
  maxPositions: number;
}

/** What must be read and computed. */
export interface Work {
  bytes: number;
  /** Multiplications and additions. */
  flops: number;
}

/** The least time for a piece of work, in seconds, and what sets it. */
export interface Bound {
  seconds: number;
  boundBy: "memory" | "compute";
}

/**
 * The shape of a model on disk; its weights are not read.
 *
 * @throws {CheckpointError} for a missing, damaged or unknown checkpoint
 */
export async function readShape(path: string, dtype: "float32" | "bfloat16"): Promise<ModelShape> {
  const source = await openCheckpoint(path);
  const family = familyOf(source.config, source.path);
  const spec = specOf(family, source.config);
  source.close();
  let layerParameters = 0, tableParameters = 0;
  for (const { shape, leaf } of family.entries(spec)) {
    const size = shape.reduce((product, n) => product * n, 1);
    // Of the tables of tokens and positions a step reads only the rows that it looks up.
    if (leaf === "tokens" || leaf === "positions") tableParameters += size;
    else layerParameters += size;
  }
  const headParameters = spec.vocabSize * spec.embedding.size;
  const { numHeads, numKvHeads, headDim } = spec.attention;
  const decoderParameters = layerParameters + tableParameters;
  return {
    elementBytes: dtype === "float32" ? 4 : 2,
    parameters: decoderParameters + (spec.tiesEmbeddings ? 0 : headParameters),
    decoderParameters,
    layerParameters, headParameters, numHeads, numKvHeads, headDim,
    numLayers: spec.numLayers, vocabSize: spec.vocabSize, maxPositions: spec.maxPositions,
  };
}

/** Bytes of the keys and values of so many tokens. */
export function cacheBytes({ elementBytes, numLayers, numKvHeads, headDim }: ModelShape, tokens: number): number {
  return 2 * numLayers * numKvHeads * headDim * elementBytes * tokens;
}

/** What an engine samples with, see `HybridEngineOptions.weights`. */
export type SampledWith = "same" | "int8";

/** Bytes of all weights, and of the copy of layers and head in int8. */
export function weightBytes(shape: ModelShape, weights: SampledWith = "same"): number {
  const { elementBytes, parameters, layerParameters, headParameters } = shape;
  return elementBytes * parameters + (weights === "int8" ? layerParameters + headParameters : 0);
}

/** Tokens that a sequence has in the cache in a decode step, on average over the steps that give tokens 2 to `newTokens`. */
export function meanContext(promptLength: number, newTokens: number): number {
  return promptLength + newTokens / 2;
}

/** One decode step: the weights once, the cache of all sequences, and two operations a weight and sequence. */
export function decodeStepWork(
  shape: ModelShape, { batch, context, weights = "same" }: { batch: number; context: number; weights?: SampledWith },
): Work {
  const parameters = shape.layerParameters + shape.headParameters;
  return {
    bytes: (weights === "int8" ? 1 : shape.elementBytes) * parameters + cacheBytes(shape, batch * context),
    flops: 2 * parameters * batch + attentionFlops(shape, batch * context),
  };
}

/** The forward of whole prompts: the layers for every token, the head for the last one of each prompt, attention to all before. */
export function prefillWork(shape: ModelShape, promptLengths: readonly number[]): Work {
  const tokens = sum(promptLengths);
  const pairs = sum(promptLengths.map((length) => (length * (length + 1)) / 2));
  return {
    bytes: shape.elementBytes * (shape.layerParameters + shape.headParameters) + cacheBytes(shape, tokens),
    flops: forwardFlops(shape, { tokens, predicted: promptLengths.length }) + attentionFlops(shape, pairs),
  };
}

/** Tokens of a forward, and those of them whose logits are computed. */
export interface TokenCounts {
  tokens: number;
  predicted: number;
}

/** Products with the weights, two operations each; without attention. */
export function forwardFlops({ layerParameters, headParameters }: ModelShape, { tokens, predicted }: TokenCounts): number {
  return 2 * (layerParameters * tokens + headParameters * predicted);
}

/** Forward and backward: six operations a weight and token. Neither attention nor recomputation counts. */
export function trainFlops(shape: ModelShape, counts: TokenCounts): number {
  return 3 * forwardFlops(shape, counts);
}

/** Prompts and the answers to them, in tokens. */
export interface AnswerLengths {
  promptLengths: readonly number[];
  responseLengths: readonly number[];
}

/**
 * The least seconds of the stages of a PPO iteration: prefill and every decode step of the rows that are still running; forwards of
 * reference, critic and reward model; forward and backward of the actor and backward of the critic, whose forward of scoring can serve. All
 * four are of the model's size, critic and reward model without a head. Products run at their peak; attention counts in generation only.
 */
export function iterationSeconds(
  shape: ModelShape, { promptLengths, responseLengths }: AnswerLengths, limits: MachineLimits,
): { generate: number; score: number; train: number } {
  let generate = boundOf(prefillWork(shape, promptLengths), limits).seconds;
  for (let step = 1; step < Math.max(...responseLengths); step++) {
    const contexts = promptLengths.filter((_, i) => step < (responseLengths[i] ?? 0)).map((length) => length + step);
    generate += boundOf(decodeStepWork(shape, { batch: contexts.length, context: sum(contexts) / contexts.length }), limits).seconds;
  }
  const predicted = sum(responseLengths), tokens = sum(promptLengths) + predicted;
  const [withHead, without] = [{ tokens, predicted }, { tokens, predicted: 0 }];
  const scoring = forwardFlops(shape, withHead) + 2 * forwardFlops(shape, without);
  const training = trainFlops(shape, withHead) + trainFlops(shape, without) - forwardFlops(shape, without);
  return { generate, score: scoring / limits.flopsPerSecond, train: training / limits.flopsPerSecond };
}

/** Of one parameter's gradient, float32. */
export const gradientBytes = 4;

/** What training keeps of one parameter: the weight, its gradient, mean, mean of squares and, beside a bfloat16 weight, a master. */
export function trainedBytes(elementBytes: number): number {
  return elementBytes + gradientBytes + 2 * 4 + (elementBytes < 4 ? 4 : 0);
}

/** Scores and weighted values of so many pairs of a query and a key, in all heads and layers. */
function attentionFlops({ numLayers, numHeads, headDim }: ModelShape, pairs: number): number {
  return 4 * numHeads * headDim * numLayers * pairs;
}

/** The least time that a piece of work can take: that of its bytes or that of its operations, whichever is longer. */
export function boundOf({ bytes, flops }: Work, { bytesPerSecond, flopsPerSecond }: MachineLimits): Bound {
  const [reading, computing] = [bytes / bytesPerSecond, flops / flopsPerSecond];
  return reading >= computing ? { seconds: reading, boundBy: "memory" } : { seconds: computing, boundBy: "compute" };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
