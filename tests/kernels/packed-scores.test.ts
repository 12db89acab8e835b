import { describe, expect, test } from "vitest";
import { cat, fromNumbers } from "../../src/tensor/create.ts";
import { operator } from "../../src/tensor/operator.ts";
import { Tensor } from "../../src/tensor/tensor.ts";
import { expandHeads, splitHeads } from "../nn/plain-attention.ts";
import { describeKernels } from "./kernel-sets.ts";
import { floatTypes } from "./numbers.ts";
import { type attend, drawPacked, gradientOf } from "./packed-attention.ts";

/** How scores are changed before the softmax. */
interface Scores {
  window?: number;
  softcap?: number;
  slopes?: readonly number[];
}

const op = { packedAttention: operator("tschat::packed_attention"), tanh: operator("tanh") };

/** Lengths around the borders of the gradient's blocks, 64 queries or keys. */
const lengths = [1, 63, 64, 65, 130, 200];
const cases: [string, Scores][] = [
  ["a window of 1", { window: 1 }],
  ["a window of 50", { window: 50 }],
  ["a window of 64 behind a block's border", { window: 64 }],
  ["a soft cap", { softcap: 2 }],
  ["ALiBi", { slopes: [0.5, 0.25, 0.1, 0.7] }],
  ["all three", { window: 70, softcap: 3, slopes: [0.5, 0.25, 0.1, 0.7] }],
];

const kernel = ({ window = 0, softcap = 0, slopes }: Scores): typeof attend => ({ offsets, shape }, projected) => {
  const { numHeads, numKvHeads, headDim } = shape, alibi = slopes && fromNumbers(slopes, [slopes.length], "float32");
  return new Tensor(op.packedAttention(
    projected.handle, offsets, null, null, numHeads, numKvHeads, headDim ** -0.5, window, softcap, alibi?.handle ?? null,
  ));
};

/** One matrix of scores a head: cap tanh(q k / sqrt(dim) / cap) + slope (key - query), hidden ones -1e30. */
const plain = ({ window = Infinity, softcap, slopes }: Scores): typeof attend => ({ offsets, shape }, projected) => {
  const [q, k, v] = splitHeads(projected, shape), { numHeads, headDim } = shape;
  const keys = expandHeads(k, numHeads), values = expandHeads(v, numHeads);
  const sequences = offsets.slice(1).map((end, i) => {
    const from = offsets[i] ?? 0, length = end - from;
    const [queries, own, seen] = [q, keys, values].map((x) => x.slice(0, from, end).transpose(0, 1)) as [Tensor, Tensor, Tensor];
    const biasOf = (head: number, query: number, key: number) =>
      key > query || key <= query - window ? -1e30 : (slopes?.[head] ?? 0) * (key - query);
    const bias = Array.from({ length: numHeads * length ** 2 }, (_, n) =>
      biasOf(Math.floor(n / length ** 2), Math.floor(n / length) % length, n % length));
    let scores = queries.matmul(own.transpose(1, 2)).mul(headDim ** -0.5);
    if (softcap !== undefined) scores = new Tensor(op.tanh(scores.div(softcap).handle)).mul(softcap);
    const weights = scores.add(fromNumbers(bias, [numHeads, length, length], "float64")).softmax(-1);
    return weights.matmul(seen).transpose(0, 1).reshape([length, numHeads * headDim]);
  });
  return cat(sequences);
};

function relativeError(found: Tensor, expected: Tensor): number {
  const wrong = found.to("float64").sub(expected);
  return (wrong.mul(wrong).sum().item() / expected.mul(expected).sum().item()) ** 0.5;
}

describeKernels("packed attention with other scores", () => {
  describe.each(floatTypes)("%s", (dtype) => {
    test.each(cases)("have libtorch's result and gradient: %s", (_, scores) => {
      const drawn = drawPacked({ dtype, heads: 4, kvHeads: 2, headDim: 20, lengths }), wide = drawn.projected.to("float64");
      const result = relativeError(kernel(scores)(drawn, drawn.projected), plain(scores)(drawn, wide));
      expect(result).toBeLessThan(dtype === "float32" ? 3e-6 : 0.006);
      const gradient = relativeError(gradientOf(kernel(scores), drawn), gradientOf(plain(scores), drawn, wide));
      expect(gradient).toBeLessThan(dtype === "float32" ? 3e-6 : 0.012);
    });
  });
});
