import type { DType } from "../native/binding.ts";
import { noGrad } from "../tensor/autograd.ts";
import { zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy, untracked } from "../tensor/tidy.ts";
import type { BlockLora } from "./lora.ts";

/** One matrix or vector of a block, as it is multiplied: fused projections are one leaf. */
export interface LeafSpec {
  name: string;
  shape: readonly number[];
}

/** Where a leaf lies in its block's flat buffer, in elements. */
interface Placement {
  shape: readonly number[];
  start: number;
  size: number;
}

/** Every leaf starts at a multiple of 64 bytes in bfloat16 and 128 in float32; a misaligned view costs 8 to 29% in thin products. */
const ALIGNMENT = 32;

/**
 * The parameters of one block of a model: views into one flat buffer. Matrices, which weight decay applies to, come
 * first and vectors last, so a block is two ranges for the optimizer. The leaves that autograd sees are detached views,
 * and in training their gradients are views of one flat float32 buffer into which backward accumulates in place.
 * The padding between leaves is zero and stays so; no checkpoint has it.
 */
export class ParameterBlock {
  readonly name: string;
  /** [elements] in the model's dtype: all leaves and the padding between them. */
  readonly flat: Tensor;
  /** Elements before this index decay, those from it on do not. */
  readonly decayEnd: number;
  readonly #placements = new Map<string, Placement>();
  /** Low-rank adapters over some of the matrices, which `leaf` then gives with the adapters added. */
  lora: BlockLora | undefined;
  readonly #leaves = new Map<string, Tensor>();
  #gradient: Tensor | undefined;
  #trainedFrom = 0;

  /** @param flat a buffer with these leaves, to look into it instead of a new one */
  constructor(name: string, leaves: readonly LeafSpec[], dtype: DType, flat?: Tensor) {
    this.name = name;
    let end = 0;
    const place = (leaf: LeafSpec): void => {
      const size = leaf.shape.reduce((product, n) => product * n, 1);
      this.#placements.set(leaf.name, { shape: leaf.shape, start: end, size });
      end = Math.ceil((end + size) / ALIGNMENT) * ALIGNMENT;
    };
    for (const leaf of leaves) if (leaf.shape.length > 1) place(leaf);
    this.decayEnd = end;
    for (const leaf of leaves) if (leaf.shape.length <= 1) place(leaf);
    this.flat = flat ?? zeros([end], dtype);
    for (const leaf of this.#placements.keys()) this.#leaves.set(leaf, this.viewOf(this.flat, leaf));
  }

  /** Number of parameters, padding left out. */
  get numParameters(): number { return [...this.#placements.values()].reduce((sum, { size }) => sum + size, 0); }

  /** Leaves with two dimensions. */
  get matrixNames(): readonly string[] {
    return [...this.#placements].flatMap(([name, { shape }]) => (shape.length > 1 ? [name] : []));
  }

  /** The leaf that is multiplied with; autograd sees it unless it has an adapter. */
  leaf(name: string): Tensor {
    const leaf = this.find(name);
    if (!leaf) throw new Error(`internal: block "${this.name}" has no leaf "${name}"`);
    return leaf;
  }
  /** The leaf, or undefined where this model has none (a bias, say). */
  find(name: string): Tensor | undefined { return this.lora?.of(name)?.merged ?? this.#leaves.get(name); }

  /** The part of `flat` (any buffer with this block's layout: parameters, optimizer's master) that belongs to a leaf. */
  viewOf(flat: Tensor, name: string): Tensor {
    const { start, size, shape } = this.#placement(name);
    return noGrad(() => flat.detach().slice(0, start, start + size).reshape(shape));
  }

  /** Element from which on the block trains: 0, or `decayEnd` where only its vectors do. */
  get trainedFrom(): number { return this.#trainedFrom; }
  /** [elements from `trainedFrom` on] float32, or undefined while the block is frozen. */
  get gradient(): Tensor | undefined { return this.#gradient; }
  /** A leaf's part of the gradient, or undefined where the leaf does not train. */
  gradientOf(name: string): Tensor | undefined {
    const { start, size, shape } = this.#placement(name), gradient = this.#gradient, from = start - this.#trainedFrom;
    if (!gradient || from < 0) return undefined;
    return noGrad(() => gradient.detach().slice(0, from, from + size).reshape(shape));
  }

  /** Makes the leaves, or the vectors only, train: allocates the flat gradient and hangs its views under the leaves. */
  enableGradients(part: "all" | "vectors" = "all"): void {
    const from = part === "all" ? 0 : this.decayEnd;
    if (this.#gradient || from === this.flat.size) return;
    this.#trainedFrom = from;
    this.#gradient = untracked(() => zeros([this.flat.size - from], "float32"));
    for (const [name, leaf] of this.#leaves) {
      tidy(() => { // only the leaf holds its view
        const gradient = this.gradientOf(name);
        if (!gradient) return;
        leaf.requiresGrad_();
        leaf.setGrad(gradient);
      });
    }
  }

  /** Gives the gradient's memory back; `enableGradients` makes it anew, of zeros, before the next backward. */
  releaseGradient(): void {
    for (const leaf of this.#leaves.values()) leaf.setGrad(undefined);
    this.#gradient?.dispose();
    this.#gradient = undefined;
  }

  /** The block no longer trains; its gradient is dropped. */
  freeze(): void {
    this.releaseGradient();
    for (const leaf of this.#leaves.values()) leaf.requiresGrad_(false);
  }

  #placement(name: string): Placement {
    const placement = this.#placements.get(name);
    if (!placement) throw new Error(`internal: block "${this.name}" has no leaf "${name}"`);
    return placement;
  }
}
