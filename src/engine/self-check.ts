import { EngineMismatchError, TrainingError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { packRows } from "../model/packing.ts";
import { type LayerProduct, layerProduct } from "../nn/layer-product.ts";
import { noGrad } from "../tensor/autograd.ts";
import { Generator, indices, rand } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { InferenceView } from "./inference-view.ts";
import { KvCache, pagesFor } from "./kv-cache.ts";
import { uniformAt } from "./philox.ts";

/** The two halves of generation. */
export type Inference = Pick<InferenceView, "prefill" | "decode">;

/** How far generation was from training, over the compared tokens. */
export interface ModeDifference {
  /** Mean and largest absolute difference of a token's log-probability, nats. */
  mean: number;
  largest: number;
  /** Where the largest one is. */
  at: { row: number; position: number; token: number; training: number; generation: number };
  /** Mean difference that rounding errors make, in bfloat16; 0 in float32. */
  rounding: number;
}

type InferenceOf = (cache: KvCache) => Inference;

/** Largest difference in float32: sums in another order. */
const FLOAT32_LARGEST = 1e-4;
/**
 * Mean difference in bfloat16, as a multiple of what one rounding error in every product does to the same tokens. No fixed number
 * serves all models: honest differences grow with depth, faults are faint where attention is even. Measured on seven models of 2 layers
 * and SmolLM2-135M: honest 0.3 to 0.8 (0.002 to 0.06 nats), a mask left out 3 to 33 (from 0.02 nats), positions off by one 2 to 120.
 */
const BFLOAT16_ROUNDINGS = 1.5;
/** Mean difference, nats, that is let pass in any case. */
const NEGLIGIBLE = 1e-3;

/** Tokens of the rows, and how many of each are drawn one by one: page boundaries at 32 and 64 are crossed on the way. */
const ROW_LENGTHS = [38, 70, 46];
const NUM_DECODED = 12;
const SEED = 20_260;

/**
 * Compares log-probabilities of the training forward with those of prefill and decoding, on a small batch of unequal lengths.
 *
 * @param inferenceOf replaced in tests by one that is wrong
 * @throws {EngineMismatchError} when they differ: by more than 1e-4 somewhere in float32, in bfloat16 by more on average than rounding
 *   explains
 * @throws {TrainingError} when the model's own log-probabilities are not finite
 */
export function checkModes(model: CausalLM, inferenceOf?: InferenceOf): void {
  const { mean, largest, at, rounding } = compareModes(model, inferenceOf);
  const isFloat32 = model.dtype === "float32";
  const [found, tolerance] = isFloat32 ? [largest, FLOAT32_LARGEST] : [mean, Math.max(NEGLIGIBLE, BFLOAT16_ROUNDINGS * rounding)];
  if (found <= tolerance) return; // false for NaN
  if (!Number.isFinite(at.training)) {
    throw new TrainingError(
      `${model.architecture}: the log-probability of a token is ${at.training}, so the model is damaged; start from another checkpoint`,
    );
  }
  throw new EngineMismatchError(
    `${model.architecture} in ${model.dtype}: generation gives other log-probabilities than training. The largest difference is ` +
      `${short(largest)} nats at row ${at.row}, position ${at.position}, token ${at.token} (training ${short(at.training)}, generation ` +
      `${short(at.generation)}), the mean ${short(mean)}; allowed is a ${isFloat32 ? "largest" : "mean"} difference of ` +
      `${short(tolerance)}. ` +
      "Training is refused: it would follow answers that the model does not give. Please report this with the model's config.json",
  );
}

function short(x: number): string {
  return x.toPrecision(3);
}

/** What `checkModes` judges. */
export function compareModes(model: CausalLM, inferenceOf: InferenceOf = (cache) => new InferenceView(model, cache)): ModeDifference {
  const { vocabSize, maxPositions } = model.spec;
  const rows = ROW_LENGTHS.map((length, row) =>
    Array.from({ length: Math.min(length, maxPositions) }, (_, t) => Math.floor(uniformAt(SEED, row, t) * vocabSize)));
  const count = Math.min(NUM_DECODED, ...rows.map((row) => row.length - 1));
  const counts = rows.map((row) => row.map((_, t) => t >= row.length - count));
  return noGrad(() => tidy(() => {
    const training = model.tokenLogprobs(rows, { counts }).logprobs.numbers();
    const generation = decodedLogprobs(model, rows, count, inferenceOf);
    const differences = distances(training, generation);
    const largest = Math.max(...differences); // NaN if there is one
    const place = differences.findIndex((difference) => Object.is(difference, largest));
    const row = Math.floor(place / count), position = (rows[row]?.length ?? 0) - count + (place % count);
    const [ofTraining = Number.NaN, ofGeneration = Number.NaN] = [training[place], generation[place]];
    return {
      mean: meanOf(differences), largest,
      at: { row, position, token: rows[row]?.[position] ?? 0, training: ofTraining, generation: ofGeneration },
      rounding: model.dtype === "float32" ? 0 : meanOf(distances(training, roughLogprobs(model, rows, count))),
    };
  }));
}

function distances(a: readonly number[], b: readonly number[]): number[] {
  return a.map((value, i) => Math.abs(value - (b[i] ?? Number.NaN)));
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Log-probability of each row's last `count` tokens by the training forward, every product off by up to a bfloat16's last bit. */
function roughLogprobs(model: CausalLM, rows: readonly (readonly number[])[], count: number): number[] {
  const generator = new Generator(SEED);
  const product: LayerProduct = (...args) => tidy(() => {
    const exact = layerProduct(...args).to("float32");
    const factor = rand(exact.shape, generator).sub(0.5).mul(2 ** -7).add(1); // 1 +- 2^-8
    return exact.mul(factor).to(model.dtype);
  });
  const packed = packRows(rows);
  const ends = packed.offsets.slice(1);
  const predictors = ends.flatMap((end) => Array.from({ length: count }, (_, t) => end - count + t - 1));
  const targets = rows.flatMap((row) => row.slice(row.length - count));
  const hidden = model.hidden(packed, { product }).indexSelect(0, indices(predictors));
  return targetLogprobs(model.logits(hidden, product), targets);
}

function targetLogprobs(logits: Tensor, targets: readonly number[]): number[] {
  return logits.logSoftmax(1).gather(1, indices(targets).unsqueeze(1)).numbers();
}

/** Log-probability of each row's last `count` tokens, row by row: the tokens before them are prefilled, they follow one by one. */
function decodedLogprobs(model: CausalLM, rows: readonly (readonly number[])[], count: number, inferenceOf: InferenceOf): number[] {
  const cache = new KvCache(model.spec, model.dtype);
  const numPages = rows.map((row) => pagesFor(row.length));
  cache.reserve(numPages.reduce((sum, n) => sum + n, 0), Math.max(...rows.map((row) => row.length)));
  const pages = numPages.map((n) => cache.pool.allocate(n));
  const pageTable = KvCache.pageTable(pages);
  const inference = inferenceOf(cache);
  const tokensAt = (t: number) => rows.map((row) => row[row.length - count + t] ?? 0);
  const byStep = [targetLogprobs(inference.prefill(rows.map((row) => row.slice(0, row.length - count)), pages), tokensAt(0))];
  for (let t = 1; t < count; t++) {
    const positions = rows.map((row) => row.length - count + t - 1);
    byStep.push(tidy(() => targetLogprobs(inference.decode(tokensAt(t - 1), positions, pageTable), tokensAt(t))));
  }
  return rows.flatMap((_, row) => byStep.map((logprobs) => logprobs[row] ?? Number.NaN));
}
