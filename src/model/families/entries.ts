import type { DecoderSpec } from "../spec.ts";
import type { CheckpointEntry } from "./family.ts";

/** Where a tensor goes. */
interface Place {
  block: CheckpointEntry["block"];
  leaf: string;
  row?: number;
}
/** How a matrix lies in the checkpoint. */
interface MatrixOptions {
  bias?: boolean;
  transposed?: boolean;
  order?: readonly number[] | undefined;
}

/** Collects what a family's checkpoints hold, names by parts. */
export class Entries {
  readonly list: CheckpointEntry[] = [];
  readonly #prefix: string;
  constructor(prefix: string) { this.#prefix = prefix; }

  /** A tensor as it is. */
  add(name: string, shape: readonly number[], { block, leaf, row = 0 }: Place): void {
    this.list.push({ name: this.#prefix + name, shape, block, leaf, row });
  }

  /** `<module>.weight` [out, in], and `<module>.bias` [out] into the leaf `<leaf>Bias`. */
  linear(module: string, [out, width]: readonly [number, number], place: Place, { bias, transposed, order }: MatrixOptions = {}): void {
    const { block, leaf, row = 0 } = place, own = order ? { order } : {};
    this.list.push({
      name: `${this.#prefix}${module}.weight`, shape: transposed ? [width, out] : [out, width], block, leaf, row, ...own,
      ...(transposed ? { transposed } : {}),
    });
    if (bias) this.list.push({ name: `${this.#prefix}${module}.bias`, shape: [out], block, leaf: `${leaf}Bias`, row, ...own });
  }

  /** Weight, and bias of a layer norm. */
  norm(module: string, { norm, hiddenSize }: DecoderSpec, block: CheckpointEntry["block"], leaf: string): void {
    if (!norm.affine) return;
    this.add(`${module}.weight`, [hiddenSize], { block, leaf });
    if (norm.kind === "layer") this.add(`${module}.bias`, [hiddenSize], { block, leaf: `${leaf}Bias` });
  }

  /** Queries, keys and values as three matrices, or as one that holds them one after the other in `order`. */
  projections(
    names: readonly [string, string, string] | string, spec: DecoderSpec, block: number,
    { order, keyOrder, transposed }: { order?: readonly number[]; keyOrder?: readonly number[]; transposed?: boolean } = {},
  ): void {
    const { hiddenSize, attention: { numHeads, numKvHeads, headDim, inputBias: bias } } = spec, leaf = "queryKeyValue";
    const queries = numHeads * headDim, keys = numKvHeads * headDim;
    if (typeof names === "string") {
      this.linear(names, [queries + 2 * keys, hiddenSize], { block, leaf }, { bias, order, ...(transposed ? { transposed } : {}) });
      return;
    }
    const [query, key, value] = names;
    this.linear(query, [queries, hiddenSize], { block, leaf }, { bias, order });
    this.linear(key, [keys, hiddenSize], { block, leaf, row: queries }, { bias, order: keyOrder });
    this.linear(value, [keys, hiddenSize], { block, leaf, row: queries + keys }, { bias });
  }
}

/**
 * The leaf's rows [queries; keys; values] in a matrix that holds, for each of `groups`, `queries` query heads, a key head and a value head:
 * `order` of `CheckpointEntry`.
 */
export function groupedOrder(groups: number, queries: number, headDim: number): readonly number[] {
  const perGroup = queries + 2;
  const rowsOf = (head: (group: number) => number[]) =>
    Array.from({ length: groups }, (_, g) => head(g)).flat().flatMap((h) => Array.from({ length: headDim }, (_, d) => h * headDim + d));
  return [
    ...rowsOf((g) => Array.from({ length: queries }, (_, q) => g * perGroup + q)),
    ...rowsOf((g) => [g * perGroup + queries]),
    ...rowsOf((g) => [g * perGroup + queries + 1]),
  ];
}

/**
 * Heads whose first `dims` elements are rotated as neighbours (2i, 2i + 1), as rows in which halves (i, i + dims / 2) are: the products of
 * queries and keys stay the same.
 */
export function neighboursAsHalves(numHeads: number, headDim: number, dims: number): readonly number[] {
  const inHead = Array.from({ length: headDim }, (_, d) => (d < dims / 2 ? 2 * d : d < dims ? 2 * (d - dims / 2) + 1 : d));
  return Array.from({ length: numHeads }, (_, h) => inHead.map((d) => h * headDim + d)).flat();
}
