import type { CausalLM } from "../model/causal-lm.ts";
import { type Int8Matrix, int8Product, type LayerProduct, quantizeRows } from "../nn/layer-product.ts";
import type { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { tidy, untracked } from "../tensor/tidy.ts";

/**
 * A model's matrices, those of the layers and of the head, in int8 with a factor for each row: half the bytes of bfloat16 to read for
 * every token. What it samples is not quite the model's own distribution.
 */
export class Int8Weights {
  /** Multiplies by them. */
  readonly product: LayerProduct;
  readonly #matrices = new Map<ParameterBlock, Map<string, Int8Matrix>>();

  constructor(model: CausalLM) {
    const add = (block: ParameterBlock, names: readonly string[]) =>
      this.#matrices.set(block, new Map(names.map((name) => [name, tidy(() => quantizeRows(block.leaf(name)))])));
    untracked(() => noGrad(() => {
      for (const layer of model.decoder.layers) add(layer, layer.matrixNames);
      const [head, name] = model.headMatrix;
      add(head, [name]);
    }));
    this.product = int8Product((block, matrix) => this.#matrices.get(block)?.get(matrix));
  }

  dispose(): void {
    for (const matrices of this.#matrices.values()) {
      for (const { values, scales } of matrices.values()) {
        values.dispose();
        scales.dispose();
      }
    }
  }
}
