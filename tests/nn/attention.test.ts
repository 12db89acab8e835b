import { expect, test } from "vitest";
import { attendPacked } from "../../src/nn/attention.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { fromNumbers, Generator, randn } from "../../src/tensor/create.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { assertClose } from "../assert-close.ts";

const HEADS = 4,
  KV_HEADS = 2,
  HEAD_DIM = 3;
const offsets = [0, 5, 6, 9];

/** softmax(q k^T / sqrt(headDim)) v on plain numbers, query t of a sequence seeing tokens 0..t, head h the key head h / 2. */
function slowAttention(q: Tensor, k: Tensor, v: Tensor): number[] {
  const at = (x: Tensor, heads: number) => {
    const numbers = x.numbers();
    return (token: number, head: number, i: number) => numbers[(token * heads + head) * HEAD_DIM + i] ?? Number.NaN;
  };
  const [query, key, value] = [at(q, HEADS), at(k, KV_HEADS), at(v, KV_HEADS)];
  const dims = Array.from({ length: HEAD_DIM }, (_, i) => i);
  const out: number[] = [];
  for (let sequence = 0; sequence + 1 < offsets.length; sequence++) {
    for (let t = offsets[sequence] ?? 0; t < (offsets[sequence + 1] ?? 0); t++) {
      for (let head = 0; head < HEADS; head++) {
        const shared = Math.floor(head / (HEADS / KV_HEADS));
        const seen = Array.from({ length: t + 1 - (offsets[sequence] ?? 0) }, (_, i) => (offsets[sequence] ?? 0) + i);
        const weights = seen.map((token) =>
          Math.exp(dims.reduce((sum, i) => sum + query(t, head, i) * key(token, shared, i), 0) / Math.sqrt(HEAD_DIM)),
        );
        const sum = weights.reduce((a, b) => a + b, 0);
        for (const i of dims) out.push(seen.reduce((total, token, j) => total + ((weights[j] ?? 0) / sum) * value(token, shared, i), 0));
      }
    }
  }
  return out;
}

test("packed sequences attend to themselves alone, causally, with shared key heads", () => {
  const generator = new Generator(3);
  const [q, k, v] = [
    randn([9, HEADS, HEAD_DIM], generator),
    randn([9, KV_HEADS, HEAD_DIM], generator),
    randn([9, KV_HEADS, HEAD_DIM], generator),
  ];
  const attended = attendPacked(offsets, q, k, v);
  expect(attended.shape).toEqual([9, HEADS * HEAD_DIM]);
  assertClose(attended.numbers(), slowAttention(q, k, v), { atol: 1e-6 });
});

test("gradients of queries, keys and values are slopes, by central differences", () => {
  const generator = new Generator(4);
  const inputs = [
    randn([9, HEADS, HEAD_DIM], generator),
    randn([9, KV_HEADS, HEAD_DIM], generator),
    randn([9, KV_HEADS, HEAD_DIM], generator),
  ] as const;
  const slope = randn([9, HEADS * HEAD_DIM], generator);
  const value = (q: Tensor, k: Tensor, v: Tensor) => attendPacked(offsets, q, k, v).mul(slope).sum();
  const leaves = inputs.map((x) => x.detach().requiresGrad_());
  value(...(leaves as [Tensor, Tensor, Tensor])).backward();
  const step = 1e-2;
  for (const [which, leaf] of leaves.entries()) {
    for (const at of [0, 7, 20, leaf.size - 1]) {
      const nudged = (by: number) =>
        noGrad(() => {
          const numbers = leaf.numbers();
          numbers[at] = (numbers[at] ?? Number.NaN) + by;
          const moved = fromNumbers(numbers, leaf.shape, "float32");
          return value(...(leaves.map((x, i) => (i === which ? moved : x)) as [Tensor, Tensor, Tensor])).item();
        });
      assertClose(leaf.grad?.numbers()[at] ?? Number.NaN, (nudged(step) - nudged(-step)) / (2 * step), { rtol: 1e-2, atol: 2e-3 });
    }
  }
});
