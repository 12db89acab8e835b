import type { CausalLM } from "../model/causal-lm.ts";
import { packRows } from "../model/packing.ts";
import { type LayerProduct, layerProduct } from "../nn/layer-product.ts";
import { indices } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { KvCache } from "./kv-cache.ts";

/** The model as generation runs it: the very weights that train, without gradient, its keys and values in a cache. */
export class InferenceView {
  readonly model: CausalLM;
  readonly cache: Pick<KvCache, "prefill" | "decode">;
  readonly #product: LayerProduct;
  constructor(model: CausalLM, cache: Pick<KvCache, "prefill" | "decode">, product = layerProduct) {
    this.model = model;
    this.cache = cache;
    this.#product = product;
  }

  /** [prompts, vocab] logits after each prompt, which enters the cache at its `pages`. */
  prefill(prompts: readonly (readonly number[])[], pages: readonly (readonly number[])[]): Tensor {
    const rows = packRows(prompts);
    const only = indices(rows.offsets.slice(1).map((end) => end - 1));
    const hidden = this.model.hidden(rows, { attention: this.cache.prefill(rows, pages), product: this.#product, only });
    return this.model.logits(hidden, this.#product);
  }

  /**
   * [rows, vocab] logits after one more token a row, which enters the cache.
   *
   * @param positions place of each token in its own sequence
   * @param pageTable see `KvCache.pageTable`
   */
  decode(tokens: readonly number[], positions: readonly number[], pageTable: Tensor): Tensor {
    const rows = { tokens: indices(tokens), positions: indices(positions), offsets: [] };
    const hidden = this.model.hidden(rows, { attention: this.cache.decode(pageTable, rows.positions), product: this.#product });
    return this.model.logits(hidden, this.#product);
  }
}
