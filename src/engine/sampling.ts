import { ConfigError } from "../errors.ts";
import { fromNumbers } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";

const op = {
  searchSorted: operator("searchsorted", "Tensor"), topk: operator<Tensor["handle"][]>("topk"), sort: operator<Tensor["handle"][]>("sort"),
};

/** How tokens are drawn. */
export interface SamplingOptions {
  /** Logits are divided by it; 0 takes the largest logit. Default 1. */
  temperature?: number;
  /** Only the `topK` largest logits (and their equals) can be drawn; 0, the default, means all. */
  topK?: number;
  /** Only the smallest set of tokens whose probabilities reach `topP` can be drawn; 1, the default, means all. */
  topP?: number;
}

/**
 * The options with their defaults filled in.
 *
 * @throws {ConfigError} for a value out of range
 */
export function checkSampling({ temperature = 1, topK = 0, topP = 1 }: SamplingOptions): Required<SamplingOptions> {
  if (!(temperature >= 0 && temperature < Infinity)) {
    throw new ConfigError(`temperature: expected a number of at least 0, got ${temperature}`);
  }
  if (!Number.isInteger(topK) || topK < 0) throw new ConfigError(`topK: expected a whole number of at least 0, got ${topK}`);
  if (!(topP > 0 && topP <= 1)) throw new ConfigError(`topP: expected a number in (0, 1], got ${topP}`);
  return { temperature, topK, topP };
}

/** One drawn token a row, and its log-probability. */
export interface Sampled {
  tokens: number[];
  /**
   * Nats, under softmax(logits / temperature) before any token was excluded (at temperature 0: softmax(logits)), which
   * is what a training forward computes.
   */
  logprobs: number[];
}

/**
 * Draws one token a row by inverting the cumulative distribution in float64, in vocabulary order.
 *
 * @param logits [batch, vocab]
 * @param uniforms one number in [0, 1) a row; unused at temperature 0
 * @param excluded token ids that row i cannot draw
 */
export function sample(
  logits: Tensor, options: Required<SamplingOptions>, uniforms: readonly number[], excluded: readonly (readonly number[])[],
): Sampled {
  const { temperature, topK, topP } = options;
  const scaled = temperature === 0 || temperature === 1 ? logits.to("float32") : logits.to("float32").div(temperature);
  let allowed = scaled;
  if (excluded.some((tokens) => tokens.length > 0)) allowed = exclude(allowed, excluded);
  let drawn: Tensor;
  if (temperature === 0) {
    drawn = allowed.argmax(1);
  } else {
    if (topK > 0 && topK < (logits.shape[1] ?? 0)) allowed = keepTopK(allowed, topK);
    let probabilities = allowed.softmax(1);
    if (topP < 1) probabilities = keepTopP(probabilities, topP);
    drawn = draw(probabilities, uniforms);
  }
  const picked = scaled.gather(1, drawn.unsqueeze(1)).squeeze(1);
  return { tokens: drawn.numbers(), logprobs: picked.sub(scaled.logSumExp(1)).numbers() };
}

function exclude(logits: Tensor, excluded: readonly (readonly number[])[]): Tensor {
  const copy = logits.clone();
  for (const [row, tokens] of excluded.entries()) for (const token of tokens) copy.select(0, row).select(0, token).fill_(-Infinity);
  return copy;
}

function keepTopK(logits: Tensor, k: number): Tensor {
  const [values] = op.topk(logits.handle, k).map((handle) => new Tensor(handle));
  if (!values) throw new Error("internal: topk gave nothing");
  const least = values.slice(1, k - 1);
  return logits.where(logits.less(least).logicalNot(), -Infinity);
}

/** Zeroes the tail: a token stays while the probabilities before it, largest first, sum to less than `topP`. */
function keepTopP(probabilities: Tensor, topP: number): Tensor {
  const [sorted] = op.sort(probabilities.handle, 1, true).map((handle) => new Tensor(handle));
  if (!sorted) throw new Error("internal: sort gave nothing");
  const before = sorted.cumsum(1).sub(sorted);
  const least = sorted.where(before.less(topP), Infinity).neg().amax(1, true).neg(); // the smallest probability that stays
  return probabilities.where(probabilities.less(least).logicalNot(), 0);
}

function draw(probabilities: Tensor, uniforms: readonly number[]): Tensor {
  const cumulative = probabilities.to("float64").cumsum(1);
  const total = cumulative.slice(1, -1);
  const thresholds = fromNumbers(uniforms, [uniforms.length, 1], "float64").mul(total);
  // right: the first token whose cumulative probability exceeds the threshold, so one of probability 0 is never drawn.
  const found = new Tensor(op.searchSorted(cumulative.handle, thresholds.handle, false, true)).squeeze(1);
  return found.clamp(0, (probabilities.shape[1] ?? 1) - 1);
}
