import { describe, expect, test } from "vitest";
import { attentionTables, packedAttention } from "../../src/nn/attention.ts";
import { type RotarySpec, rotaryTables } from "../../src/nn/rotary.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { fromData, tensor, zeros } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { assertClose } from "../assert-close.ts";
import { failure } from "../failure.ts";
import { attendAt, rotated } from "../kernels/attention-reference.ts";
import { expectWithin, floatTypes } from "../kernels/numbers.ts";
import { attend, attendPlainly, type Drawn, drawPacked, gradientOf, type Packed, slopeOf } from "../kernels/packed-attention.ts";

type Case = Omit<Packed, "dtype">;

/** Lengths of one token, and around the borders of pages (32 tokens) and chunks (256). */
const lengths = [5, 1, 31, 32, 33, 1, 255, 257, 70];
const cases: [string, Case][] = [
  ["4 heads of 3 on 2, no positions", { heads: 4, kvHeads: 2, headDim: 3, lengths }],
  ["4 heads of 3 on 2, 2 elements rotated", { heads: 4, kvHeads: 2, headDim: 3, dims: 2, lengths }],
  ["6 heads of 20 on 2, 12 elements rotated", { heads: 6, kvHeads: 2, headDim: 20, dims: 12, lengths }],
  ["3 heads of 20 on 1, tables scaled", { heads: 3, kvHeads: 1, headDim: 20, dims: 20, factor: 1.3, lengths }],
  ["2 heads of 64", { heads: 2, kvHeads: 2, headDim: 64, dims: 64, lengths }],
  ["5 heads of 64 on 1, no positions", { heads: 5, kvHeads: 1, headDim: 64, lengths }],
  ["one token", { heads: 2, kvHeads: 1, headDim: 16, dims: 16, lengths: [1] }],
];

describe.each(floatTypes)("packed sequences in %s", (dtype) => {
  test.each(cases)("attend to themselves alone, causally: %s", (_, sizes) => {
    const drawn = drawPacked({ ...sizes, dtype }), { setting, inputs, offsets } = drawn, y = attend(drawn, drawn.projected);
    expect([y.dtype, y.shape]).toEqual([dtype, [offsets.at(-1), sizes.heads * sizes.headDim]]);
    for (const [i, row] of inputs.rows.entries()) {
      const tokens = rotated(setting, inputs, row);
      for (let t = 0; t < (sizes.lengths[i] ?? 0); t++) {
        const { y: want, bound } = attendAt(setting, inputs, tokens, t);
        expectWithin(y.select(0, (offsets[i] ?? 0) + t), want, bound, `token ${t} of sequence ${i}`);
      }
    }
  });

  test("leave what they are given as it is, need not lie together, and may be empty", () => {
    const drawn = drawPacked({ heads: 2, kvHeads: 1, headDim: 20, dims: 20, dtype, lengths: [3, 40] }), { projected } = drawn;
    const before = projected.bytes(), y = attend(drawn, projected).bytes();
    gradientOf(attend, drawn);
    expect(projected.bytes()).toEqual(before);
    const wide = zeros([43, 100], dtype);
    wide.slice(1, 7, 87).copy_(projected);
    expect(attend(drawn, wide.slice(1, 7, 87)).bytes()).toEqual(y);
    expect(attend({ ...drawn, offsets: [0, 0, 3, 3, 43, 43] }, projected).bytes()).toEqual(y);
    const expected = gradientOf(attend, drawn).bytes();
    expect(gradientOf(attend, { ...drawn, offsets: [0, 0, 3, 3, 43, 43] }).bytes()).toEqual(expected);
  });
});

/** sum(slope * attention) in float64 on plain numbers. */
function slowValue({ setting, inputs, shape, offsets }: Drawn, projected: Float64Array, slope: readonly number[]): number {
  const width = (setting.heads + 2 * setting.kvHeads) * setting.headDim, size = shape.numHeads * shape.headDim;
  let total = 0;
  for (const [i, length] of setting.prompts.entries()) {
    const start = offsets[i] ?? 0;
    const row = fromData(projected.slice(start * width, (start + length) * width), [length, width], "float64");
    const tokens = rotated(setting, inputs, row);
    for (let t = 0; t < length; t++)
      for (const [d, y] of attendAt(setting, inputs, tokens, t).y.entries()) total += y * (slope[(start + t) * size + d] ?? Number.NaN);
  }
  return total;
}

test.each(cases)("gradients are slopes, by central differences: %s", (_, sizes) => {
  const drawn = drawPacked({ ...sizes, lengths: sizes.lengths.slice(0, 1), dtype: "float32" }), { projected } = drawn;
  const gradient = gradientOf(attend, drawn).numbers(), slope = slopeOf(drawn).numbers(), step = 1e-5;
  const point = Float64Array.from(projected.numbers());
  // Each 7th element: queries, keys and values of all heads and all of the at most 5 tokens.
  for (let at = 0; at < point.length; at += point.length > 300 ? 7 : 1) {
    const nudged = (by: number) => slowValue(drawn, point.map((x, i) => (i === at ? x + by : x)), slope);
    assertClose(gradient[at] ?? Number.NaN, (nudged(step) - nudged(-step)) / (2 * step), { rtol: 1e-4, atol: 1e-5 });
  }
});

/** |actual - expected| < `of` everywhere, relative to the largest expected element of the same token. */
function expectNear(actual: Tensor, expected: Tensor, of: number): void {
  expect(actual.shape).toEqual(expected.shape);
  const right = expected.to("float64"), sizes = right.abs().amax(1, true).add(1e-3);
  expect(actual.to("float64").sub(right).abs().div(sizes).max().item()).toBeLessThan(of);
}

/** The lengths of the differences of all queries' gradients, all keys' and all values', relative to those of the gradients. */
function relativeErrors(actual: Tensor, expected: Tensor, { numHeads, numKvHeads, headDim }: Drawn["shape"]): number[] {
  const sizes = [numHeads, numKvHeads, numKvHeads].map((heads) => heads * headDim), length = (x: Tensor) => x.mul(x).sum().item() ** 0.5;
  const right = expected.split(sizes, 1), wrong = actual.to("float64").sub(expected).split(sizes, 1);
  return wrong.map((x, i) => length(x) / Math.max(length(right[i] as Tensor), 1e-30));
}

/** libtorch's backward takes blocks of queries by length (from 192 and 768 on) and heads in steps of vectors. */
const odd: [string, Case][] = [
  ...[1, 2, 5, 7, 15, 17, 33, 65, 80, 96, 128, 256].map((headDim): [string, Case] =>
    [`heads of ${headDim}`, { heads: 4, kvHeads: 2, headDim, dims: 2 * Math.floor(headDim / 2), lengths: [1, 40, 17] }]),
  ...[191, 192, 193, 767, 768, 800].map((length): [string, Case] =>
    [`${length} tokens`, { heads: 2, kvHeads: 1, headDim: 16, dims: 8, lengths: [length, 3] }]),
];

test.each([...cases, ...odd])("gradients are libtorch's, in float32 as in float64, in bfloat16 within rounding: %s", (_, sizes) => {
  const drawn = drawPacked({ ...sizes, dtype: "float32" });
  expectNear(gradientOf(attend, drawn), gradientOf(attendPlainly, drawn, drawn.projected.to("float64")), 3e-5);
  const rough = drawPacked({ ...sizes, dtype: "bfloat16" });
  const exact = gradientOf(attendPlainly, rough, rough.projected.to("float64"));
  // libtorch's own kernels in bfloat16 are up to 0.011 off; one rounding is up to 0.004.
  expect(Math.max(...relativeErrors(gradientOf(attend, rough), exact, rough.shape))).toBeLessThan(0.012);
});

test("gradients through the tables of YaRN, whose factor is in them twice", () => {
  const scaling = {
    kind: "yarn", factor: 4, betaFast: 32, betaSlow: 1, originalMaxPositions: 16, attentionFactor: 1.7, truncate: true,
  } as const;
  const spec: RotarySpec = { dims: 12, theta: 100, scaling };
  const sizes: Packed = { heads: 4, kvHeads: 2, headDim: 20, dtype: "float32", lengths: [40, 7] };
  const drawn = { ...drawPacked(sizes), rotary: rotaryTables(spec, 40, "float32") };
  const exact = drawn.projected.to("float64");
  expectNear(attend(drawn, drawn.projected), attendPlainly(drawn, exact), 1e-5);
  expectNear(gradientOf(attend, drawn), gradientOf(attendPlainly, drawn, exact), 3e-5);
});

test("a result without gradient has the bits of one with it, and no history", () => {
  const drawn = drawPacked({ heads: 2, kvHeads: 1, headDim: 20, dims: 12, dtype: "bfloat16", lengths: [300, 3] });
  const leaf = drawn.projected.detach().requiresGrad_(), y = attend(drawn, leaf);
  const plain = [noGrad(() => attend(drawn, leaf)), attend(drawn, drawn.projected)];
  expect([y, ...plain].map((x) => x.requiresGrad)).toEqual([true, false, false]);
  for (const x of plain) expect(x.bytes()).toEqual(y.bytes());
});

test("scores are multiplied with the scale of the layer", () => {
  // Scores 0 and 2 * 2 * 0.5 = 2 of the second token, values 0 and 1: e^2 / (1 + e^2)
  const projected = tensor([[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 2, 0, 0, 0, 1, 1, 1, 1]]);
  const heads = { numHeads: 1, numKvHeads: 1, headDim: 4 };
  const layer = (scale: number) => ({ scale, softcap: 0, window: 0, rotary: undefined });
  const tables = attentionTables({ ...heads, layers: [layer(1), layer(0.5)] }, 2, "float32");
  const y = packedAttention([0, 2], heads, tables).attend(1, projected);
  assertClose(y, [[0, 0, 0, 0], new Array<number>(4).fill(Math.E ** 2 / (1 + Math.E ** 2))], { atol: 1e-6 });
});

test("a result that nothing runs backward through gives back what it kept for that", () => {
  const drawn = drawPacked({ heads: 4, kvHeads: 2, headDim: 20, dims: 20, dtype: "float32", lengths: new Array<number>(60).fill(32) });
  const run = (times: number) => {
    for (let i = 0; i < times; i++) tidy(() => void attend(drawn, drawn.projected.detach().requiresGrad_()));
  };
  run(20);
  const before = process.memoryUsage.rss();
  run(100); // each keeps 1920 tokens of (4 + 2 * 2 + 4) * 20 floats, 1.8 MB
  expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(90);
});

describe("what packed attention refuses", () => {
  const op = operator("tschat::packed_attention");
  interface Arguments extends Record<"heads" | "kvHeads", number>, Record<"cos" | "signedSin", Tensor | undefined> {
    projected: Tensor;
    offsets: number[];
  }
  const good = (): Arguments =>
    ({ projected: zeros([5, 32]), offsets: [0, 3, 5], cos: zeros([3, 4]), signedSin: zeros([3, 4]), heads: 4, kvHeads: 2 });
  const call = ({ projected, offsets, cos, signedSin, heads, kvHeads }: Arguments) =>
    op(projected.handle, offsets, cos?.handle ?? null, signedSin?.handle ?? null, heads, kvHeads, 0.5);
  const shapes = "expected [tokens, (heads + 2 kvHeads) * head size] with ";
  const refused: [string, Partial<Arguments>, string][] = [
    ["no heads", { heads: 0 }, `${shapes}0 and 2 heads, got [5, 32]`],
    ["no key heads", { kvHeads: 0 }, `${shapes}4 and 0 heads`],
    ["key heads below 0", { kvHeads: -1 }, `${shapes}4 and -1 heads`],
    ["heads that do not divide among key heads", { heads: 3, projected: zeros([5, 28]) }, `${shapes}3 and 2 heads, got [5, 28]`],
    ["one dimension", { projected: zeros([32]) }, "got [32]"],
    ["a width that is no multiple of the heads", { projected: zeros([5, 33]) }, `${shapes}4 and 2 heads, got [5, 33]`],
    ["no offsets", { offsets: [] }, "offsets: expected 0 to 5, got []"],
    ["an offset alone", { offsets: [0], projected: zeros([0, 32]) }, "offsets: expected 0 to 0, got [0]"],
    ["offsets that start late", { offsets: [1, 5] }, "offsets: expected 0 to 5, got [1, 5]"],
    ["offsets that end early", { offsets: [0, 4] }, "offsets: expected 0 to 5, got [0, 4]"],
    ["offsets that fall", { offsets: [0, 4, 3, 5] }, "offsets must not fall, got [0, 4, 3, 5]"],
    ["one table of two", { signedSin: undefined }, "rotary tables: expected both or neither"],
    ["tables too short for the longest sequence", { cos: zeros([2, 4]), signedSin: zeros([2, 4]) },
      "position 2 is not in the rotary tables of 2"],
    ["tables of another type", { cos: zeros([3, 4], "bfloat16") }, "rotary tables: expected contiguous Float"],
    ["float64", { projected: zeros([5, 32], "float64") }, "expected float32 or bfloat16, got Double"],
  ];

  test("takes the arguments that the cases below start from", () => {
    expect(() => call(good())).not.toThrow();
  });

  test.each(refused)("%s, with and without gradient", (_, change, message) => {
    for (const trains of [false, true]) {
      const given = { ...good(), ...change };
      if (trains) given.projected.requiresGrad_();
      const error = failure(() => call(given));
      expect(error).toMatchObject({ name: "NativeError", code: "E_NATIVE" });
      expect(error.message).toContain(message);
    }
  });

});
