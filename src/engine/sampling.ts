import { ConfigError } from "../errors.ts";
import { fromData } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";

const op = { sample: operator<Tensor["handle"][]>("tschat::sample") };

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
 * Draws one token a row by inverting the cumulative distribution in float64, in vocabulary order. A row's draw depends on nothing but
 * its own logits, settings, number and exclusions.
 *
 * @param logits [rows, vocab] float32 or bfloat16
 * @param settings how each row draws
 * @param uniforms one number in [0, 1) a row; unused at temperature 0
 * @param excluded token ids that row i cannot draw
 * @throws {NativeError} for a row that holds NaN or Infinity, or no token that can be drawn
 */
export function sample(
  logits: Tensor, settings: readonly Required<SamplingOptions>[], uniforms: readonly number[], excluded: readonly (readonly number[])[],
): Sampled {
  const values = new Float64Array(3 * settings.length);
  for (const [i, { temperature, topK, topP }] of settings.entries()) values.set([temperature, topK, topP], 3 * i);
  const pairs = excluded.flatMap((tokens, row) => tokens.flatMap((token) => [BigInt(row), BigInt(token)]));
  const [tokens, logprobs] = op.sample(
    logits.handle,
    fromData(Float64Array.from(uniforms), [uniforms.length], "float64").handle,
    fromData(values, [settings.length, 3], "float64").handle,
    pairs.length === 0 ? null : fromData(BigInt64Array.from(pairs), [pairs.length / 2, 2], "int64").handle,
  );
  if (!tokens || !logprobs) throw new Error("internal: sample gave nothing");
  return { tokens: new Tensor(tokens).numbers(), logprobs: new Tensor(logprobs).numbers() };
}
