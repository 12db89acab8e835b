import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { afterEach, describe, expect, test } from "vitest";
import { Generation } from "../../src/engine/generation.ts";
import { InferenceView } from "../../src/engine/inference-view.ts";
import { KvCache, pagesFor } from "../../src/engine/kv-cache.ts";
import { CausalLM } from "../../src/model/causal-lm.ts";
import type { LoraOptions } from "../../src/model/lora.ts";
import { type PackedRows, packRows } from "../../src/model/packing.ts";
import { targetLogprobs } from "../../src/model/token-logprobs.ts";
import { noGrad } from "../../src/tensor/autograd.ts";
import { cat } from "../../src/tensor/create.ts";
import { numThreads, setNumThreads } from "../../src/tensor/system.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { tidy } from "../../src/tensor/tidy.ts";
import { describeKernels } from "../kernels/kernel-sets.ts";
import { floatTypes, random } from "../kernels/numbers.ts";
import { writeTinyModel } from "../model/tiny-model.ts";
import { temporaryFolder } from "../temporary-folder.ts";

const threads = numThreads();
afterEach(() => setNumThreads(threads));

const golden = (name: string) => () => fileURLToPath(new URL(join("../fixtures/goldens", name), import.meta.url));
const written = (family: "llama" | "opt", config: Record<string, unknown> = {}) => () =>
  writeTinyModel(temporaryFolder(), { family, config: { max_position_embeddings: 320, ...config } });

/** Models of contexts that cross pages (32 tokens), and of longer ones that cross chunks (256). */
const models: [string, () => string, LoraOptions?][] = [
  ["tiny-llama", golden("tiny-llama")], ["tiny-opt", golden("tiny-opt")], ["tiny-opt-postnorm", golden("tiny-opt-postnorm")],
  ["tiny-llama3-biases", golden("tiny-llama3-biases")],
  ["llama of 320 tokens", written("llama", { head_dim: 20 })],
  ["llama of 320 tokens, with adapters", written("llama"), { rank: 3, alpha: 24, targets: "q_proj,v_proj,up_proj,down_proj" }],
  ["opt of 320 tokens, post-norm, narrow embeddings", written("opt", { do_layer_norm_before: false, word_embed_proj_dim: 20 })],
];

/** Rows of tokens, the first `prompt` of which are prefilled, and how they are put together. */
interface Batch {
  rows: readonly number[][];
  prompts: readonly number[];
  /** The rows in the order in which they are packed. */
  order: readonly number[];
  /** Prompts that are prefilled together, and rows that are decoded together. */
  together: number;
  /** With which the batch is trained; generation has one. */
  threads: number;
}

/** Rows around page and chunk borders; at most 40 tokens of each are decoded. */
function batches({ vocabSize, maxPositions }: CausalLM["spec"]): fc.Arbitrary<Batch> {
  const short = fc.integer({ min: 1, max: Math.min(70, maxPositions) });
  const length = maxPositions > 256 ? fc.oneof(short, fc.integer({ min: 250, max: maxPositions })) : short;
  const row = fc.record({ length, seed: fc.nat({ max: vocabSize }), decoded: fc.nat({ max: 40 }) });
  return fc.array(row, { minLength: 1, maxLength: 6 }).chain((drawn) => fc.record({
    rows: fc.constant(drawn.map(({ length: n, seed }) => Array.from({ length: n }, (_, t) => (seed + t * (t + 7)) % vocabSize))),
    prompts: fc.constant(drawn.map(({ length: n, decoded }) => Math.max(1, n - decoded))),
    order: fc.shuffledSubarray(drawn.map((_, i) => i), { minLength: drawn.length }),
    together: fc.integer({ min: 1, max: drawn.length }),
    threads: fc.integer({ min: 1, max: 3 }),
  }));
}

const bitsOf = (x: Tensor): Buffer => Buffer.from(x.contiguous().bytes());

/** Bits of what a forward gives for each token of each row, packed as `order` says: [row][token]. */
function bitsOfRows({ rows, order }: Pick<Batch, "rows" | "order">, forward: (packed: PackedRows) => Tensor): Buffer[][] {
  const packed = packRows(order.map((i) => rows[i] as number[])), results = forward(packed).detach();
  const found: Buffer[][] = rows.map(() => []);
  for (const [place, i] of order.entries())
    for (let t = packed.offsets[place] ?? 0; t < (packed.offsets[place + 1] ?? 0); t++) found[i]?.push(bitsOf(results.slice(0, t, t + 1)));
  return found;
}

/** A cache with the pages of each row. */
function cacheFor(model: CausalLM, rows: readonly number[][]): { cache: KvCache; pages: number[][] } {
  const cache = new KvCache(model.spec, model.dtype), counts = rows.map((row) => pagesFor(row.length));
  cache.reserve(counts.reduce((sum, n) => sum + n, 0), Math.max(...rows.map((row) => row.length)));
  return { cache, pages: counts.map((n) => cache.pool.allocate(n)) };
}

/** Logits [row][token] after the last token of each prompt and each token behind it. */
function generated(model: CausalLM, { rows, prompts, order, together }: Batch): Tensor[][] {
  const { cache, pages } = cacheFor(model, rows), view = new InferenceView(model, cache);
  const found: Tensor[][] = rows.map(() => []), keep = (group: readonly number[], logits: Tensor) => {
    for (const [place, i] of group.entries()) found[i]?.push(logits.slice(0, place, place + 1));
  };
  const pagesOf = (group: readonly number[]) => group.map((i) => pages[i] as number[]);
  for (let start = 0; start < order.length; start += together) {
    const group = order.slice(start, start + together);
    keep(group, view.prefill(group.map((i) => (rows[i] as number[]).slice(0, prompts[i])), pagesOf(group)));
  }
  const placeOf = (i: number) => (prompts[i] as number) + (found[i] as Tensor[]).length - 1;
  for (let step = 0; ; step++) {
    const running = order.filter((i) => placeOf(i) < (rows[i] as number[]).length);
    if (running.length === 0) return found;
    // Each step with others.
    const group = Array.from({ length: Math.min(together, running.length) }, (_, k) => running[(step + k) % running.length] as number);
    const tokens = group.map((i) => rows[i]?.[placeOf(i)] as number);
    keep(group, view.decode(tokens, group.map(placeOf), KvCache.pageTable(pagesOf(group))));
  }
}

/** Fails at the first token whose bits differ. */
function expectBits(actual: readonly Buffer[][], expected: readonly Buffer[][], starts: readonly number[], what: string): void {
  for (const [row, tokens] of actual.entries()) {
    const first = tokens.findIndex((bits, t) => !bits.equals(expected[row]?.[t + (starts[row] ?? 0)] as Buffer));
    if (first !== -1) throw new Error(`${what}: row ${row} differs from token ${first + (starts[row] ?? 0)} on`);
    if (tokens.length + (starts[row] ?? 0) !== expected[row]?.length) throw new Error(`${what}: row ${row} has ${tokens.length} results`);
  }
}

describeKernels("training and generation have the same bits", () => {
  describe.each(models)("%s", (_, folder, adapters) => {
    describe.each(floatTypes)("%s", (dtype) => {
      const load = async () => {
        const model = await CausalLM.load(folder(), { dtype });
        if (adapters) {
          const lora = model.addLora(adapters);
          for (const { flat } of lora.blocks) flat.copy_(random([flat.size], 7, "float32", 0.2)); // B starts as 0
          lora.merge();
        }
        model.enableGradients();
        return model;
      };
      const check = async (numRuns: number, run: (model: CausalLM, batch: Batch) => void) => {
        const model = await load();
        fc.assert(fc.property(batches(model.spec), (batch) => tidy(() => run(model, batch))), { numRuns, seed: 4 });
      };

      test("logits and log-probabilities after every token, however rows are split, packed and batched", async () => {
        await check(6, (model, batch) => {
          setNumThreads(batch.threads);
          const { rows, prompts } = batch, starts = prompts.map((prompt) => prompt - 1);
          const expected = bitsOfRows(batch, (packed) => model.logits(model.hidden(packed)));
          setNumThreads(1);
          const logits = noGrad(() => generated(model, batch));
          expectBits(logits.map((tokens) => tokens.map(bitsOf)), expected, starts, "generation");
          const counts = rows.map((row, i) => row.map((_token, t) => t >= (prompts[i] as number)));
          if (!counts.flat().includes(true)) return;
          const targets = rows.flatMap((row, i) => row.slice(prompts[i]));
          const predicting = logits.map((tokens) => tokens.slice(0, -1)); // nothing follows a row's last token
          expect(targetLogprobs(noGrad(() => cat(predicting.flat())), targets)).toEqual(
            model.tokenLogprobs(rows, { counts }).logprobs.numbers(),
          );
        });
      });

      test("hidden states of prompts, in training with and without gradient and alone", async () => {
        await check(6, (model, { rows, order }) => {
          const hidden = (packed: PackedRows) => model.hidden(packed), expected = bitsOfRows({ rows, order }, hidden);
          const same = (actual: Buffer[][], what: string) => expectBits(actual, expected, rows.map(() => 0), what);
          same(noGrad(() => bitsOfRows({ rows, order }, hidden)), "without gradient");
          same(rows.map((row) => bitsOfRows({ rows: [row], order: [0] }, hidden)[0] as Buffer[]), "alone");
          const { cache, pages } = cacheFor(model, rows);
          const packedPages = order.map((i) => pages[i] as number[]);
          const prefill = (packed: PackedRows) => model.hidden(packed, { attention: cache.prefill(packed, packedPages) });
          same(noGrad(() => bitsOfRows({ rows, order }, prefill)), "prefill");
        });
      });

      test("forward of a padded batch and of each row alone", async () => {
        await check(3, (model, { rows }) => {
          const width = Math.max(...rows.map((row) => row.length));
          const padded = rows.map((row, i) => { // on alternating sides
            const [padding, ones] = [new Array<number>(width - row.length).fill(0), row.map(() => 1)];
            return i % 2 === 0 ? { tokens: [...row, ...padding], mask: [...ones, ...padding] }
              : { tokens: [...padding, ...row], mask: [...padding, ...ones] };
          });
          const logits = model.forward(padded.map(({ tokens }) => tokens), { attentionMask: padded.map(({ mask }) => mask) }).detach();
          for (const [i, row] of rows.entries()) {
            const own = logits.select(0, i).slice(0, ...(i % 2 === 0 ? [0, row.length] : [width - row.length, width]) as [number, number]);
            if (!bitsOf(own).equals(bitsOf(model.forward([row]).select(0, 0).detach()))) throw new Error(`row ${i} differs`);
          }
        });
      });

      test.each([1, 0.7])("sampled log-probabilities at temperature %f, from streams that share prompts and slots", async (temperature) => {
        const model = await load(), { vocabSize } = model.spec;
        const generation = new Generation(model, { numSlots: 3, cacheBytes: 2 ** 26 });
        const prompts = [3, 33, 31, 1].map((length, i) => Array.from({ length }, (_t, t) => (i * 17 + t * 7) % vocabSize));
        const answers = generation.add(prompts.map((prompt, id) =>
          ({ prompt, id: 10 * id, numSamples: 2, maxNewTokens: 20, seed: 1, temperature, eosTokenId: null })));
        while (!generation.isFinished) generation.step();
        const rows = answers.flatMap((samples, i) => samples.map(({ response }) => [...(prompts[i] as number[]), ...response]));
        const counts = answers.flatMap((samples, i) => samples.map(({ response }) =>
          [...(prompts[i] as number[]).map(() => false), ...response.map(() => true)]));
        expect(answers.flat().flatMap(({ logprobs }) => logprobs)).toEqual(
          model.tokenLogprobs(rows, { counts, temperature }).logprobs.numbers(),
        );
      });
    });
  });
});
