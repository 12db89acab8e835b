import { EngineMismatchError, TrainingError } from "../errors.ts";
import type { CausalLM } from "../model/causal-lm.ts";
import { targetLogprobs } from "../model/token-logprobs.ts";
import { noGrad } from "../tensor/autograd.ts";
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
}

type InferenceOf = (cache: KvCache) => Inference;

/**
 * Largest difference that is let pass, in either dtype. Training and generation run the same kernels, whose sums do not depend on what
 * else is computed, so that the difference is 0 in both; a mask left out or a position off by one makes 0.02 and more, in the mean.
 */
const TOLERANCE = 1e-4;

/** Tokens of the rows, and how many of each are drawn one by one: page boundaries at 32 and 64 are crossed on the way. */
const ROW_LENGTHS = [40, 70, 52];
const NUM_DECODED = 12;
const SEED = 20_260;

/**
 * Compares log-probabilities of the training forward with those of prefill and decoding, on a small batch of unequal lengths.
 *
 * @param inferenceOf replaced in tests by one that is wrong
 * @throws {EngineMismatchError} when one of them differs by more than 1e-4 nats
 * @throws {TrainingError} when the model's own log-probabilities are not finite
 */
export function checkModes(model: CausalLM, inferenceOf?: InferenceOf): void {
  const { mean, largest, at } = compareModes(model, inferenceOf);
  if (largest <= TOLERANCE) return; // false for NaN
  if (!Number.isFinite(at.training)) {
    throw new TrainingError(
      `${model.architecture}: the log-probability of a token is ${at.training}, so the model is damaged; start from another checkpoint`,
    );
  }
  throw new EngineMismatchError(
    `${model.architecture} in ${model.dtype}: generation gives other log-probabilities than training. The largest difference is ` +
      `${short(largest)} nats at row ${at.row}, position ${at.position}, token ${at.token} (training ${short(at.training)}, generation ` +
      `${short(at.generation)}), the mean ${short(mean)}; allowed are ${short(TOLERANCE)}. ` +
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
    const differences = training.map((value, i) => Math.abs(value - (generation[i] ?? Number.NaN)));
    const largest = Math.max(...differences); // NaN if there is one
    const place = differences.findIndex((difference) => Object.is(difference, largest));
    const row = Math.floor(place / count), position = (rows[row]?.length ?? 0) - count + (place % count);
    const [ofTraining = Number.NaN, ofGeneration = Number.NaN] = [training[place], generation[place]];
    return {
      mean: differences.reduce((sum, value) => sum + value, 0) / differences.length, largest,
      at: { row, position, token: rows[row]?.[position] ?? 0, training: ofTraining, generation: ofGeneration },
    };
  }));
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
