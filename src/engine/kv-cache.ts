import type { DecoderSpec } from "../model/spec.ts";
import type { PackedRows } from "../model/packing.ts";
import type { DType } from "../native/binding.ts";
import { type AttentionContext, attentionTables, type LayerTables, tablesOf } from "../nn/attention.ts";
import { empty, fromNumbers, indices, zeros } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { PagePool } from "./page-pool.ts";

const op = {
  appendCache: operator<undefined>("tschat::append_cache"), decodeAttention: operator("tschat::decode_attention"),
  promptAttention: operator("tschat::prompt_attention"),
};

/** Tokens of a page. The kernels have the same number. */
export const PAGE_TOKENS = 32;
/** The cache pads heads to a multiple of this. */
const HEAD_MULTIPLE = 16;

/** Pages that hold `numTokens` tokens of one sequence. */
export function pagesFor(numTokens: number): number {
  return Math.ceil(numTokens / PAGE_TOKENS);
}

/** Bytes of one page in all layers, keys and values. */
export function pageBytes(spec: DecoderSpec, dtype: DType): number {
  const { numKvHeads, headDim } = spec.attention;
  return 2 * spec.numLayers * numKvHeads * PAGE_TOKENS * paddedSize(headDim) * (dtype === "float32" ? 4 : 2);
}

function paddedSize(headDim: number): number {
  return Math.ceil(headDim / HEAD_MULTIPLE) * HEAD_MULTIPLE;
}

/** One layer's pages: [pages, kvHeads, PAGE_TOKENS, padded headDim], elements in the order of the kernels. */
interface LayerCache {
  keys: Tensor;
  values: Tensor;
}

/**
 * Keys and values of sequences in pages of 32 tokens, the same page numbers in every layer. Token t of a sequence lies in
 * page `pages[t >> 5]`; sequences may share pages that none of them writes to. Memory of a page that was never used is
 * reserved but not resident.
 */
export class KvCache {
  readonly pool = new PagePool(0);
  readonly #spec: DecoderSpec;
  readonly #dtype: DType;
  #layers: readonly LayerCache[] = [];
  /** Of each layer, for as many positions as sequences have had. */
  #tables: readonly LayerTables[] = [];
  #numPositions = 0;

  constructor(spec: DecoderSpec, dtype: DType) {
    this.#spec = spec;
    this.#dtype = dtype;
  }

  /** Makes room for so many pages and for sequences of so many tokens; pages in use keep their content. */
  reserve(numPages: number, numPositions: number): void {
    if (numPositions > this.#numPositions) {
      // Doubled, so that ever longer sequences do not compute the tables each time.
      this.#numPositions = Math.min(this.#spec.maxPositions, Math.max(numPositions, 2 * this.#numPositions));
      this.#disposeTables();
      this.#tables = attentionTables(this.#spec.attention, this.#numPositions, this.#dtype);
    }
    if (numPages <= this.pool.numPages) return;
    const old = this.#layers;
    const kept = this.pool.numUsed > 0 ? this.pool.numPages : 0;
    if (kept === 0) disposeAll(old); // before the larger ones are there
    this.pool.grow(numPages);
    this.#layers = this.#allocate(numPages);
    if (kept === 0) return;
    tidy(() => {
      for (const [i, { keys, values }] of old.entries()) {
        this.#layer(i).keys.slice(0, 0, kept).copy_(keys);
        this.#layer(i).values.slice(0, 0, kept).copy_(values);
      }
    });
    disposeAll(old);
  }

  /** Causal attention of whole prompts, which enter the pages: sequence i of the packed rows those of `pages[i]`. */
  prefill({ offsets, positions }: PackedRows, pages: readonly (readonly number[])[]): AttentionContext {
    const { numHeads } = this.#spec.attention;
    const lengths = pages.map((_, i) => (offsets[i + 1] ?? 0) - (offsets[i] ?? 0));
    const places = indices(pages.flatMap((own, i) =>
      Array.from({ length: lengths[i] ?? 0 }, (_, t) => (own[Math.floor(t / PAGE_TOKENS)] ?? -1) * PAGE_TOKENS + (t % PAGE_TOKENS))));
    const sequences = indices(lengths.flatMap((length, i) => new Array<number>(length).fill(i)));
    const pageTable = KvCache.pageTable(pages);
    return {
      attend: (index, projected) => {
        const { keys, values } = this.#layer(index);
        const { cos, signedSin, scores } = tablesOf(this.#tables, index);
        op.appendCache(
          projected.handle, keys.handle, values.handle, positions.handle, places.handle, cos?.handle ?? null, signedSin?.handle ?? null,
          numHeads,
        );
        return new Tensor(op.promptAttention(
          projected.handle, keys.handle, values.handle, pageTable.handle, sequences.handle, positions.handle, numHeads, ...scores,
        ));
      },
    };
  }

  /**
   * Attention of one new token a row, which is appended.
   *
   * @param pageTable see `pageTable`
   * @param positions [rows] int64: tokens of each row that are in the cache already
   */
  decode(pageTable: Tensor, positions: Tensor): AttentionContext {
    const { numHeads } = this.#spec.attention;
    return {
      attend: (index, projected) => {
        const { keys, values } = this.#layer(index);
        const { cos, signedSin, scores } = tablesOf(this.#tables, index);
        return new Tensor(op.decodeAttention(
          projected.handle, keys.handle, values.handle, pageTable.handle, positions.handle, cos?.handle ?? null, signedSin?.handle ?? null,
          numHeads, ...scores,
        ));
      },
    };
  }

  /** The pages of several sequences as `decode` takes them: [rows, most pages] int32, 0 behind a sequence's last. */
  static pageTable(pages: readonly (readonly number[])[]): Tensor {
    const width = Math.max(...pages.map((own) => own.length));
    return fromNumbers(pages.flatMap((own) => Array.from({ length: width }, (_, i) => own[i] ?? 0)), [pages.length, width], "int32");
  }

  /** Copies page `from[i]` to page `to[i]` in every layer. */
  copyPages(from: readonly number[], to: readonly number[]): void {
    if (from.length === 0) return;
    const source = indices(from), target = indices(to);
    for (const { keys, values } of this.#layers) {
      for (const pages of [keys, values]) tidy(() => void pages.indexCopy_(0, target, pages.indexSelect(0, source)));
    }
  }

  /** Frees the memory now; the cache can be used no more. */
  dispose(): void {
    disposeAll(this.#layers);
    this.#disposeTables();
  }

  #allocate(numPages: number): LayerCache[] {
    const { numLayers, attention: { numKvHeads, headDim } } = this.#spec;
    const padded = paddedSize(headDim);
    // The padding of a head is multiplied by zeros and must be finite; everything else is written before it is read. One large piece
    // that is not zeroed becomes resident page by page, as it is used, and goes back to the system when it is freed.
    const create = padded === headDim ? empty : zeros;
    return tidy(() => {
      const all = create([numLayers, 2, numPages, numKvHeads, PAGE_TOKENS, padded], this.#dtype);
      return Array.from({ length: numLayers }, (_, i) => {
        const layer = all.select(0, i);
        return { keys: layer.select(0, 0), values: layer.select(0, 1) };
      });
    });
  }

  #disposeTables(): void {
    for (const table of new Set(this.#tables.flatMap(({ cos, signedSin, slopes }) => [cos, signedSin, slopes]))) table?.dispose();
  }

  #layer(index: number): LayerCache {
    const layer = this.#layers[index];
    if (!layer) throw new Error(`internal: no cache for layer ${index}`);
    return layer;
  }
}

function disposeAll(layers: readonly LayerCache[]): void {
  for (const { keys, values } of layers) {
    keys.dispose();
    values.dispose();
  }
}
