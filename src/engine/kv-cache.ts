import type { DType } from "../native/binding.ts";
import { type AttentionContext, attendPacked } from "../nn/attention.ts";
import { bmm } from "../nn/functional.ts";
import type { DecoderSpec } from "../model/spec.ts";
import { arange, fromNumbers, indices, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";

interface LayerCache {
  /** [slots, kvHeads, capacity, headDim] */
  keys: Tensor;
  values: Tensor;
}

/** Keys and values of running sequences, one slot each. Running sequences always are slots 0 .. n - 1. */
export class KvCache {
  readonly numSlots: number;
  /** Tokens that a slot holds. */
  readonly capacity: number;
  readonly #layers: readonly LayerCache[];
  readonly #kvHeads: number;
  readonly #headDim: number;

  constructor(spec: DecoderSpec, dtype: DType, numSlots: number, capacity: number) {
    this.numSlots = numSlots;
    this.capacity = capacity;
    this.#kvHeads = spec.attention.numKvHeads;
    this.#headDim = spec.attention.headDim;
    const shape = [numSlots, this.#kvHeads, capacity, this.#headDim];
    // Zeroed: what lies beyond a sequence's length is masked, but 0 * NaN of foreign memory would still be NaN.
    this.#layers = Array.from({ length: spec.numLayers }, () => ({ keys: zeros(shape, dtype), values: zeros(shape, dtype) }));
  }

  /** Attention of whole prompts that fills slots: sequence i of the packed rows goes to `slots[i]`. */
  prefill(offsets: readonly number[], slots: readonly number[]): AttentionContext {
    return {
      attend: (index, q, k, v) => {
        const layer = this.#layer(index);
        for (const [i, slot] of slots.entries()) {
          const [from, to] = [offsets[i] ?? 0, offsets[i + 1] ?? 0];
          layer.keys.select(0, slot).slice(1, 0, to - from).copy_(k.slice(0, from, to).transpose(0, 1));
          layer.values.select(0, slot).slice(1, 0, to - from).copy_(v.slice(0, from, to).transpose(0, 1));
        }
        return attendPacked(offsets, q, k, v);
      },
    };
  }

  /** Attention of one new token a slot: slot i holds `lengths[i]` tokens, and the new one is appended. */
  decode(lengths: readonly number[]): AttentionContext {
    const batch = lengths.length, kvHeads = this.#kvHeads, headDim = this.#headDim;
    const span = Math.max(...lengths) + 1;
    const rowOf = (slot: number, head: number, length: number) => (slot * kvHeads + head) * this.capacity + length;
    const rows = indices(lengths.flatMap((length, slot) => Array.from({ length: kvHeads }, (_, head) => rowOf(slot, head, length))));
    const ends = fromNumbers(lengths.map((length) => length + 1), [batch, 1], "int64");
    const visible = arange(0, span).unsqueeze(0).less(ends); // [batch, span]
    const perSequence = zeros([batch, span]).where(visible, -Infinity).unsqueeze(1);
    const bias = perSequence.expand([batch, kvHeads, span]).reshape([batch * kvHeads, 1, span]);
    const all = (cache: Tensor) => cache.slice(0, 0, batch).slice(2, 0, span).reshape([batch * kvHeads, span, headDim]);
    const append = (cache: Tensor, x: Tensor) => cache.reshape([-1, headDim]).indexCopy_(0, rows, x.reshape([batch * kvHeads, headDim]));
    return {
      attend: (index, q, k, v) => {
        const layer = this.#layer(index);
        append(layer.keys, k);
        append(layer.values, v);
        const [, heads] = q.shape as [number, number, number];
        const queries = q.reshape([batch * kvHeads, heads / kvHeads, headDim]);
        const scores = bmm(queries, all(layer.keys).transpose(1, 2)).to("float32").mul(headDim ** -0.5).add(bias);
        return bmm(scores.softmax(2).to(q.dtype), all(layer.values)).reshape([batch, heads * headDim]);
      },
    };
  }

  /** Copies `length` tokens of slot `from` to slot `to`, so that a finished sequence leaves no gap. */
  move(from: number, to: number, length: number): void {
    for (const layer of this.#layers) {
      for (const cache of [layer.keys, layer.values]) {
        cache.select(0, to).slice(1, 0, length).copy_(cache.select(0, from).slice(1, 0, length));
      }
    }
  }

  #layer(index: number): LayerCache {
    const layer = this.#layers[index];
    if (!layer) throw new Error(`internal: no cache for layer ${index}`);
    return layer;
  }
}
