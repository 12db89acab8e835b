import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { uniformAt } from "../../src/engine/philox.ts";
import { checkSampling, type Sampled, type SamplingOptions, sample } from "../../src/engine/sampling.ts";
import { fromNumbers, tensor } from "../../src/tensor/create.ts";
import { kernelSets, numThreads, setNumThreads, useKernels } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";

const none: number[][] = [];
const LARGEST_UNIFORM = 1 - 2 ** -53;

/** All rows with the same options. */
function draw(logits: Tensor, options: SamplingOptions, uniforms: readonly number[], excluded: readonly (readonly number[])[] = none) {
  return sample(logits, uniforms.map(() => checkSampling(options)), uniforms, excluded);
}

/** Standard normal numbers (Box and Muller), the same for the same seed. */
function normals(count: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => {
    return Math.sqrt(-2 * Math.log(1 - uniformAt(seed, i, 0))) * Math.cos(2 * Math.PI * uniformAt(seed, i, 1));
  });
}

function softmax(values: readonly number[], temperature = 1): number[] {
  const largest = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const exps = values.map((x) => Math.exp((x - largest) / temperature));
  const sum = exps.reduce((a, b) => a + b, 0);
  return exps.map((x) => x / sum);
}

/** What can be drawn and how often, by definition: everything sorted, then the largest k, then the shortest prefix that reaches topP. */
function expectedProbabilities(logits: readonly number[], options: SamplingOptions, excluded: readonly number[] = []): number[] {
  const { temperature, topK, topP } = checkSampling(options);
  const left = new Set(excluded);
  let allowed = logits.map((x, token) => (left.has(token) ? -Infinity : x));
  const bySize = [...allowed.keys()].sort((a, b) => (allowed[b] ?? 0) - (allowed[a] ?? 0) || a - b);
  if (temperature === 0) return allowed.map((_, token) => (token === bySize[0] ? 1 : 0));
  const keepFrom = (least: number) => { allowed = allowed.map((x) => (x >= least ? x : -Infinity)); };
  if (topK > 0) keepFrom(allowed[bySize[Math.min(topK, logits.length) - 1] ?? 0] ?? 0);
  const probabilities = softmax(allowed, temperature);
  let least = Infinity;
  let mass = 0;
  for (const token of bySize) {
    if (mass >= topP) break;
    least = allowed[token] ?? 0;
    mass += probabilities[token] ?? 0;
  }
  keepFrom(least);
  return softmax(allowed, temperature);
}

const SETTINGS: readonly SamplingOptions[] = [
  {}, { temperature: 0 }, { temperature: 0.7 }, { temperature: 1.3 }, { temperature: 1e-3 }, { temperature: 1e300 }, { topK: 1 },
  { topK: 3 }, { topK: 50 }, { topK: 20_000 }, { topP: 1e-9 }, { topP: 0.3 }, { topP: 0.95 }, { topP: 0.9999 }, { topP: 1 - 2 ** -53 },
  { temperature: 1.3, topK: 40, topP: 0.9 }, { temperature: 0.7, topK: 5, topP: 0.999 },
];
const UNIFORMS = [0, 0.13, 0.4999, 0.77, LARGEST_UNIFORM];

interface Case {
  name: string;
  logits: Tensor;
  excluded: readonly number[];
  /** By setting. */
  probabilities: readonly (readonly number[])[];
}

function makeCase(name: string, values: readonly number[], dtype: "float32" | "bfloat16", excluded: readonly number[]): Case {
  const logits = fromNumbers(values, [1, values.length], dtype);
  const stored = logits.numbers(); // rounded
  const probabilities = SETTINGS.map((options) => expectedProbabilities(stored, options, excluded));
  return { name: `${name}, ${dtype}`, logits, excluded, probabilities };
}

/** Made once: the sorting takes its time. */
const cases: readonly Case[] = (["float32", "bfloat16"] as const).flatMap((dtype) => [
  makeCase("1 token", [-2.5], dtype, []),
  ...[5, 17, 1000, 49_152].flatMap((vocab) => {
    const values = normals(vocab, vocab).map((x) => 3 * x);
    const ties = values.map((x) => Math.round(x));
    const largest = values.indexOf(values.reduce((a, b) => Math.max(a, b)));
    const isLarge = vocab === 49_152;
    return [
      makeCase(`${vocab} tokens`, values, dtype, []),
      ...(isLarge ? [makeCase(`${vocab} tokens nearly alike`, values.map((x) => x / 6), dtype, [])] : []),
      makeCase(`${vocab} tokens of few sizes`, ties, dtype, []),
      makeCase(`${vocab} tokens, the largest and others excluded`, values, dtype, [largest, 0, vocab - 1, largest]),
      // Under the maximum of the whole row every other weight is 0 in float32.
      makeCase(`${vocab} tokens, an overwhelming one excluded`, values.map((x, i) => (i === 2 ? 3000 : x)), dtype, [2]),
      makeCase(`${vocab} tokens, two of three impossible`, values.map((x, i) => (i % 3 === 1 ? x : -Infinity)), dtype, []),
    ];
  }),
]);

/** The token must be that of the definition, but for uniforms that are nearer to a bound of the cumulative sums than float32 weights. */
function expectDraw(token: number, uniform: number, probabilities: readonly number[], what: string): void {
  const tolerance = 1e-6;
  expect(probabilities[token], `${what}: probability of the drawn token ${token}`).toBeGreaterThan(0);
  const before = probabilities.slice(0, token).reduce((a, b) => a + b, 0);
  expect(before, `${what}: probability before token ${token}`).toBeLessThanOrEqual(uniform + tolerance);
  expect(before + (probabilities[token] ?? 0), `${what}: probability up to token ${token}`).toBeGreaterThan(uniform - tolerance);
}

const CHI_LOGITS = normals(24, 99);
const DRAWS = 20_000;
const chiUniforms = Array.from({ length: DRAWS }, (_, i) => uniformAt(5, i, 0));
/** Quantiles of the chi-square distribution at 0.999 for 1, 2, ... degrees of freedom (published table). */
const CRITICAL = [
  10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124, 27.877, 29.588, 31.264, 32.909, 34.528, 36.123, 37.697, 39.252, 40.79,
  42.312, 43.82, 45.315, 46.797, 48.268, 49.728,
];

/** Pearson's statistic over the tokens that can be drawn, and its degrees of freedom. */
function chiSquare(counts: readonly number[], probabilities: readonly number[]): { statistic: number; freedom: number } {
  const terms = probabilities.flatMap((p, token) => (p > 0 ? [((counts[token] ?? 0) - DRAWS * p) ** 2 / (DRAWS * p)] : []));
  return { statistic: terms.reduce((a, b) => a + b, 0), freedom: terms.length - 1 };
}

describe.each(["avx512", "avx2", "plain"])("kernels %s (skipped where the processor lacks them):", (set) => {
  describe.skipIf(!kernelSets().includes(set))("draws", () => {
    beforeAll(() => useKernels(set));
    afterAll(() => useKernels(kernelSets()[0] ?? "plain"));

    test.each(cases)("$name: each setting gives the token and log-probability of the definition", ({ logits, excluded, probabilities }) => {
      const rows = SETTINGS.flatMap((options, setting) => UNIFORMS.map((uniform) => ({ ...checkSampling(options), setting, uniform })));
      const uniforms = rows.map(({ uniform }) => uniform);
      const drawn = sample(logits.expand([rows.length, logits.shape[1] ?? 0]), rows, uniforms, rows.map(() => excluded));
      const values = logits.numbers();
      const largest = values.reduce((a, b) => Math.max(a, b));
      for (const [i, { setting, uniform, ...options }] of rows.entries()) {
        const token = drawn.tokens[i] ?? -1;
        expectDraw(token, uniform, probabilities[setting] ?? [], `${JSON.stringify(options)} with ${uniform}`);
        const temperature = options.temperature || 1;
        const total = values.reduce((sum, x) => sum + Math.exp((x - largest) / temperature), 0);
        const expected = ((values[token] ?? NaN) - largest) / temperature - Math.log(total);
        assertClose(drawn.logprobs[i] ?? NaN, expected, { rtol: 1e-5, atol: 1e-6 });
      }
    });

    test.each<[SamplingOptions, number, readonly number[]]>([
      [{}, 23, []],
      [{ temperature: 0.7 }, 23, []],
      [{ temperature: 1.3 }, 23, []],
      [{ topK: 9 }, 8, []],
      [{ topP: 0.8 }, 10, []],
      [{ temperature: 1.3, topK: 16, topP: 0.9 }, 12, []],
      [{}, 21, [3, 17]], // as the end tokens are before the minimum length
    ])("20,000 with %o follow the distribution that is defined (%i degrees of freedom, without %j)", (options, freedom, excluded) => {
      const logits = fromNumbers(CHI_LOGITS, [1, CHI_LOGITS.length], "float32");
      const counts = new Array<number>(CHI_LOGITS.length).fill(0);
      const { tokens } = draw(logits.expand([DRAWS, CHI_LOGITS.length]), options, chiUniforms, chiUniforms.map(() => excluded));
      for (const token of tokens) counts[token] = (counts[token] ?? 0) + 1;
      const probabilities = expectedProbabilities(logits.numbers(), options, excluded);
      expect(counts.filter((count, token) => count > 0 && probabilities[token] === 0)).toEqual([]);
      const result = chiSquare(counts, probabilities);
      expect(result.freedom).toBe(freedom);
      expect(result.statistic).toBeLessThan(CRITICAL[freedom - 1] ?? 0);
    });

    test("invert the cumulative distribution in vocabulary order", () => {
      // Probabilities 0.1, 0.2, 0.3, 0.4: cumulative 0.1, 0.3, 0.6, 1.
      const row = [0.1, 0.2, 0.3, 0.4].map(Math.log);
      const uniforms = [0, 0.0999, 0.1001, 0.2999, 0.3001, 0.5999, 0.6001, LARGEST_UNIFORM];
      expect(draw(tensor(uniforms.map(() => row)), {}, uniforms).tokens).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
    });

    test("never give a token of probability zero, not even by the smallest and the largest number", () => {
      const row = [-Infinity, 0, -Infinity, 0, -Infinity];
      expect(draw(tensor([row, row]), {}, [0, LARGEST_UNIFORM]).tokens).toEqual([1, 3]);
      // A half each, so 0.5 is the bound itself: the cumulative distribution must exceed the number.
      expect(draw(tensor([row]), {}, [0.5]).tokens).toEqual([3]);
      // 2048 weights of 1, whose sums are exact: token 2048 u is the first beyond the bound, also where a partial sum ends.
      const uniforms = [0, 511, 512, 1024, 1535, 1536, 2047].map((token) => token / 2048);
      const alike = fromNumbers(new Array<number>(2048).fill(7), [1, 2048], "float32").expand([uniforms.length, 2048]);
      expect(draw(alike, {}, uniforms).tokens).toEqual([0, 511, 512, 1024, 1535, 1536, 2047]);
    });

    test("take the first largest logit at temperature 0, and the largest with a very small topP", () => {
      const rows = tensor([
        [0, 3, 3, 1],
        [5, 1, 2, 3],
      ]);
      expect(draw(rows, { temperature: 0 }, [0.9, 0.9]).tokens).toEqual([1, 0]);
      expect(draw(tensor([[-0, 0, -1]]), { temperature: 0 }, [0.9]).tokens).toEqual([0]); // -0 equals 0
      expect(draw(tensor([[0, 3, 2, 1]]), { topP: 1e-9 }, [0.99]).tokens).toEqual([1]);
    });

    test("keep the equals of the last of topK, and all where topK is as large as the vocabulary", () => {
      // The two largest are 2 and 1, and 1 is there twice: three tokens of probabilities e^2, e, e over their sum.
      const tie = [2, 1, 0, 1];
      const drawn = (topK: number, uniforms: number[]) => draw(tensor(uniforms.map(() => tie)), { topK }, uniforms).tokens;
      // e^2 / (e^2 + 2e) = 0.576, then 0.788, then 1
      expect(drawn(2, [0.1, 0.7, 0.99])).toEqual([0, 1, 3]);
      // With all four: 7.389, 2.718, 1, 2.718 of 13.825: bounds 0.534, 0.731, 0.803, 1
      expect(drawn(9, [0.1, 0.7, 0.77, 0.99])).toEqual([0, 1, 2, 3]);
      // 0 and -0 are equal, whatever their bits: a half each
      expect(draw(tensor([[-0, 0, -1], [0, -0, -1]]), { topK: 1 }, [0.4, 0.6]).tokens).toEqual([0, 1]);
    });

    test("leave excluded tokens out row by row, and the log-probability stays that of the whole distribution", () => {
      const row = [2, 1, 0];
      const { tokens, logprobs } = draw(tensor([row, row, row]), { temperature: 0 }, [0, 0, 0], [[], [0], [0, 1]]);
      expect(tokens).toEqual([0, 1, 2]);
      assertClose(logprobs, softmax(row).map(Math.log));
    });

    test("do not depend on the rows beside, nor on the number of threads", () => {
      const vocab = 3001;
      const rows = Array.from({ length: 7 }, (_, i) => normals(vocab, i));
      const settings = rows.map((_, i) => checkSampling(SETTINGS[2 * i] ?? {}));
      const uniforms = rows.map((_, i) => uniformAt(3, i, 0));
      const together = sample(tensor(rows), settings, uniforms, [[], [5]]);
      for (const [i, row] of rows.entries()) {
        const alone = sample(tensor([row]), settings.slice(i, i + 1), uniforms.slice(i, i + 1), i === 1 ? [[5]] : none);
        expect(alone).toEqual({ tokens: [together.tokens[i]], logprobs: [together.logprobs[i]] });
      }
      const threads = numThreads();
      setNumThreads(threads === 1 ? 2 : 1);
      expect(sample(tensor(rows), settings, uniforms, [[], [5]])).toEqual(together);
      setNumThreads(threads);
    });

    test.each([NaN, Infinity])("refuse a row with %d, wherever it is, and name the row", (value) => {
      const row = normals(50, 1);
      for (const [i, temperature] of [0, 1, 0, 1].entries()) {
        const logits = tensor([row, row.map((x, token) => (token === [0, 30, 48, 49][i] ? value : x))]);
        expect(failure(() => draw(logits, { temperature }, [0, 0]))).toEqual({
          name: "NativeError", code: "E_NATIVE",
          message: expect.stringMatching(/^tschat::sample\(float32\[2, 50\].*: no token can be drawn in row 1: a logit is NaN/),
        });
      }
    });

    test.each([
      ["impossible", [-Infinity, -Infinity, -Infinity], []],
      ["impossible or excluded", [0, -Infinity, 2], [0, 2]],
    ])("refuse a row whose tokens are all %s and name it", (_, row, excluded) => {
      for (const temperature of [0, 1]) {
        expect(failure(() => draw(tensor([[0, 1, 2], row]), { temperature }, [0, 0], [[], excluded]))).toEqual({
          name: "NativeError", code: "E_NATIVE",
          message: expect.stringMatching(/: no token can be drawn in row 1: all logits are -Infinity or excluded$/),
        });
      }
    });
  });
});

describe("arguments that do not fit are refused:", () => {
  const logits = tensor([[0, 1, 2], [0, 1, 2]]);
  const settings = [checkSampling({}), checkSampling({})];
  const drawWith = (uniforms: number[], excluded = none) => sample(logits, settings, uniforms, excluded);
  const drawOf = (other: Tensor) => sample(other, settings, [0, 0], none);
  const drawUnder = (second: Partial<Required<SamplingOptions>>) => {
    return sample(logits, [checkSampling({}), { temperature: 1, topK: 0, topP: 1, ...second }], [0, 0], none);
  };
  test.each<[string, () => Sampled, RegExp]>([
    ["logits of another dtype", () => drawOf(logits.to("float64")), /logits: expected float32 or bfloat16, got Double$/],
    ["logits of one dimension", () => drawOf(tensor([0, 1])), /logits: expected \[rows, vocab\], got \[2\]$/],
    ["an empty vocabulary", () => drawOf(fromNumbers([], [2, 0], "float32")), /logits: expected \[rows, vocab\], got \[2, 0\]$/],
    ["too few uniforms", () => drawWith([0]), /uniforms: expected a contiguous Double\[2\], got Double\[1\]$/],
    ["a uniform of 1", () => drawWith([0, 1]), /row 1: expected a uniform number in \[0, 1\), got 1$/],
    ["a uniform of NaN", () => drawWith([0, NaN]), /row 1: expected a uniform number in \[0, 1\), got nan$/],
    ["an exclusion outside the vocabulary", () => drawWith([0, 0], [[], [3]]), /excluded: expected a token below 3, got 3 in row 1$/],
    ["an exclusion of no row", () => drawWith([0, 0], [[], [], [1]]), /excluded: expected ascending rows below 2, got 2 at 0$/],
    ["too few settings", () => sample(logits, settings.slice(1), [0, 0], none), /settings: expected .*\[2, 3\], got Double\[1, 3\]$/],
    ["a temperature below 0", () => drawUnder({ temperature: -1 }), /row 1: expected a temperature of at least 0, got -1$/],
    ["a fraction as topK", () => drawUnder({ topK: 1.5 }), /row 1: expected a whole topK of at least 0, got 1.5$/],
    ["a topP of 0", () => drawUnder({ topP: 0 }), /row 1: expected a topP in \(0, 1\], got 0$/],
  ])("%s", (_, action, message) => {
    expect(failure(action)).toEqual({ name: "NativeError", code: "E_NATIVE", message: expect.stringMatching(message) });
  });
});

test.each([
  [{ temperature: -1 }, /^temperature: expected a number of at least 0, got -1$/],
  [{ temperature: Infinity }, /^temperature: expected a number of at least 0, got Infinity$/],
  [{ topK: 1.5 }, /^topK: expected a whole number of at least 0, got 1.5$/],
  [{ topP: 0 }, /^topP: expected a number in \(0, 1\], got 0$/],
])("checkSampling refuses %o", (options, message) => {
  expect(failure(() => checkSampling(options))).toEqual({ name: "ConfigError", code: "E_CONFIG", message: expect.stringMatching(message) });
});
