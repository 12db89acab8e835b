import { describe, expect, test } from "vitest";
import { uniformAt } from "../../src/engine/philox.ts";
import { checkSampling, type SamplingOptions, sample } from "../../src/engine/sampling.ts";
import { fromNumbers, tensor } from "../../src/tensor/create.ts";
import { assertClose } from "../assert-close.ts";

const DRAWS = 20_000;
const logits = [1.2, -0.4, 0.3, 2, -3, 0.9, 1.1, -0.2];
const none: number[][] = [];

function softmax(values: readonly number[], temperature = 1): number[] {
  const exps = values.map((x) => Math.exp(x / temperature));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / sum);
}

/** What may be drawn, by definition: probabilities of the largest k, then of the shortest prefix by size that reaches topP. */
function expectedProbabilities({ temperature = 1, topK = 0, topP = 1 }: SamplingOptions): number[] {
  const bySize = logits.map((_, token) => token).sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
  const kept = topK > 0 ? bySize.slice(0, topK) : bySize;
  const renormalised = softmax(
    logits.map((x, token) => (kept.includes(token) ? x : -Infinity)),
    temperature,
  );
  const nucleus: number[] = [];
  let mass = 0;
  for (const token of kept) {
    if (mass >= topP) break;
    nucleus.push(token);
    mass += renormalised[token] ?? 0;
  }
  return renormalised.map((p, token) => (nucleus.includes(token) ? p / mass : 0));
}

/** Pearson's statistic over the tokens that can be drawn, and its degrees of freedom. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): { statistic: number; freedom: number } {
  const terms = probabilities.flatMap((p, token) => (p > 0 ? [((counts[token] ?? 0) - DRAWS * p) ** 2 / (DRAWS * p)] : []));
  return { statistic: terms.reduce((a, b) => a + b, 0), freedom: terms.length - 1 };
}

/** Quantiles of the chi-square distribution at 0.999, by degrees of freedom (published table). */
const CRITICAL: Readonly<Record<number, number>> = { 1: 10.828, 2: 13.816, 3: 16.266, 4: 18.467, 5: 20.515, 6: 22.458, 7: 24.322 };

describe("20,000 draws", () => {
  test.each<[SamplingOptions, number]>([
    [{}, 7],
    [{ temperature: 0.5 }, 7],
    [{ temperature: 2 }, 7],
    [{ topK: 3 }, 2],
    [{ topP: 0.8 }, 3],
    [{ temperature: 1.5, topK: 6, topP: 0.9 }, 4],
  ])("with %o follow the distribution that the settings define, and no excluded token appears", (options, freedom) => {
    const counts = new Array<number>(logits.length).fill(0);
    const uniforms = Array.from({ length: DRAWS }, (_, i) => uniformAt(5, i, 0));
    const batch = fromNumbers(logits, [1, logits.length], "float32").expand([DRAWS, logits.length]);
    for (const token of sample(batch, checkSampling(options), uniforms, none).tokens) counts[token] = (counts[token] ?? 0) + 1;
    const probabilities = expectedProbabilities(options);
    expect(counts.filter((count, token) => count > 0 && probabilities[token] === 0)).toEqual([]);
    const result = chiSquare(counts, probabilities);
    expect(result.freedom).toBe(freedom);
    expect(result.statistic).toBeLessThan(CRITICAL[freedom] ?? 0);
  });
});

test("a draw inverts the cumulative distribution in vocabulary order", () => {
  // Probabilities 0.1, 0.2, 0.3, 0.4: cumulative 0.1, 0.3, 0.6, 1.
  const row = [0.1, 0.2, 0.3, 0.4].map(Math.log);
  const uniforms = [0, 0.0999, 0.1001, 0.2999, 0.3001, 0.5999, 0.6001, 1 - 2 ** -53];
  expect(sample(tensor(uniforms.map(() => row)), checkSampling({}), uniforms, none).tokens).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
});

test("a token of probability zero is never drawn, not even by the smallest and the largest number", () => {
  const row = [-Infinity, 0, -Infinity, 0, -Infinity];
  expect(sample(tensor([row, row]), checkSampling({}), [0, 1 - 2 ** -53], none).tokens).toEqual([1, 3]);
});

test("temperature 0 takes the first largest logit; a very small topP takes it too", () => {
  const rows = tensor([
    [0, 3, 3, 1],
    [5, 1, 2, 3],
  ]);
  expect(sample(rows, checkSampling({ temperature: 0 }), [0.9, 0.9], none).tokens).toEqual([1, 0]);
  expect(sample(tensor([[0, 3, 2, 1]]), checkSampling({ topP: 1e-9 }), [0.99], none).tokens).toEqual([1]);
});

test("topK keeps the equals of its last, and a topK as large as the vocabulary keeps all", () => {
  // The two largest are 2 and 1, and 1 is there twice: three tokens of probabilities e^2, e, e over their sum.
  const tie = [2, 1, 0, 1];
  const drawn = (topK: number) => [0.1, 0.7, 0.99].map((u) => sample(tensor([tie]), checkSampling({ topK }), [u], none).tokens[0]);
  // e^2 / (e^2 + 2e) = 0.576, then 0.788, then 1
  expect(drawn(2)).toEqual([0, 1, 3]);
  // With all four: 7.389, 2.718, 1, 2.718 of 13.825: bounds 0.534, 0.731, 0.803, 1
  expect([0.1, 0.7, 0.77, 0.99].map((u) => sample(tensor([tie]), checkSampling({ topK: 9 }), [u], none).tokens[0])).toEqual([0, 1, 2, 3]);
});

test("excluded tokens are left out row by row, and the log-probability stays that of the whole distribution", () => {
  const row = [2, 1, 0];
  const { tokens, logprobs } = sample(tensor([row, row, row]), checkSampling({ temperature: 0 }), [0, 0, 0], [[], [0], [0, 1]]);
  expect(tokens).toEqual([0, 1, 2]);
  assertClose(logprobs, softmax(row).map(Math.log));
});

test("log-probabilities are at the temperature of the draw, before topK and topP", () => {
  const { tokens, logprobs } = sample(tensor([logits]), checkSampling({ temperature: 0.7, topK: 2, topP: 0.5 }), [0.5], none);
  expect(tokens).toEqual([3]);
  assertClose(logprobs, [Math.log(softmax(logits, 0.7)[3] ?? 0)], { rtol: 1e-5 });
});
