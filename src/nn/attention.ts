import type { DType, TensorHandle } from "../native/binding.ts";
import { fromNumbers } from "../tensor/create.ts";
import { operator } from "../tensor/operator.ts";
import { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import { type NormKind, normCode } from "./layer-product.ts";
import { type RotarySpec, type RotaryTables, rotaryTables } from "./rotary.ts";

const op = { packedAttention: operator("tschat::packed_attention"), normHeads: operator("tschat::norm_heads") };

/** Numbers of heads and their size. */
export interface HeadShape {
  numHeads: number;
  /** Keys and values are shared by `numHeads / numKvHeads` queries (arXiv:2305.13245). */
  numKvHeads: number;
  headDim: number;
}

/** How the scores of one layer are made. */
export interface LayerAttention {
  /** Scores are queries times keys times this. */
  scale: number;
  /** Scores become softcap * tanh(scores / softcap); 0: they stay. */
  softcap: number;
  /** Tokens that a query sees, itself included; 0: all before it. */
  window: number;
  /** How queries and keys are rotated, if they are; layers that do it alike share one object. */
  rotary: RotarySpec | undefined;
}

/** Attention as data. */
export interface AttentionShape extends HeadShape {
  /** One for each layer. */
  layers: readonly LayerAttention[];
  /** ALiBi (arXiv:2108.12409): of each head, what a score loses per token of distance. */
  slopes?: readonly number[];
}

/** What the operators of attention take beside projections, keys and values. */
export interface LayerTables {
  readonly cos: Tensor | undefined;
  readonly signedSin: Tensor | undefined;
  /** [numHeads] float32 */
  readonly slopes: Tensor | undefined;
  /** Arguments behind the tables: scale, window, soft cap, slopes. */
  readonly scores: readonly [scale: number, window: number, softcap: number, slopes: TensorHandle | null];
}

/** The tables of every layer for positions 0 .. numPositions - 1; layers that rotate alike share theirs. */
export function attentionTables({ layers, slopes }: AttentionShape, numPositions: number, dtype: DType): readonly LayerTables[] {
  return tidy(() => {
    const rotary = new Map<RotarySpec, RotaryTables>();
    for (const { rotary: spec } of layers) if (spec && !rotary.has(spec)) rotary.set(spec, rotaryTables(spec, numPositions, dtype));
    const table = slopes && fromNumbers(slopes, [slopes.length], "float32");
    return layers.map(({ scale, window, softcap, rotary: spec }): LayerTables => {
      const own = spec && rotary.get(spec);
      return { cos: own?.cos, signedSin: own?.signedSin, slopes: table, scores: [scale, window, softcap, table?.handle ?? null] };
    });
  });
}

/** How the layers of one forward pass reach keys and values: within the pass, or through a cache. */
export interface AttentionContext {
  /**
   * @param layer index of the calling layer
   * @param projected [total, (numHeads + 2 numKvHeads) * headDim]: queries, keys and values of every token, not yet rotated
   * @returns [total, numHeads * headDim]
   */
  attend(layer: number, projected: Tensor): Tensor;
}

/**
 * Every packed sequence sees itself alone, each token the tokens up to it. The same kernel on the same layout as in generation, with
 * gradient.
 *
 * @param tables of all positions that occur, for every layer
 */
export function packedAttention(
  offsets: readonly number[], { numHeads, numKvHeads }: Omit<HeadShape, "headDim">, tables: readonly LayerTables[],
): AttentionContext {
  return {
    attend: (layer, projected) => {
      const { cos, signedSin, scores } = tablesOf(tables, layer);
      return new Tensor(op.packedAttention(
        projected.handle, offsets, cos?.handle ?? null, signedSin?.handle ?? null, numHeads, numKvHeads, ...scores,
      ));
    },
  };
}

/** The tables of one layer. */
export function tablesOf(tables: readonly LayerTables[], layer: number): LayerTables {
  const own = tables[layer];
  if (!own) throw new Error(`internal: no attention tables for layer ${layer}`);
  return own;
}

/** What `normalizeHeads` computes with. */
export interface HeadNorm {
  kind: NormKind;
  eps: number;
  /** [headDim] for all query heads, or [numHeads * headDim] */
  queryWeight: Tensor;
  /** [headDim] for all key heads, or [numKvHeads * headDim] */
  keyWeight: Tensor;
}

/** Each head of the queries and keys in `projected` normalised; see `AttentionContext.attend`. */
export function normalizeHeads(projected: Tensor, { numHeads, numKvHeads }: Omit<HeadShape, "headDim">, norm: HeadNorm): Tensor {
  const { kind, eps, queryWeight, keyWeight } = norm;
  return new Tensor(op.normHeads(projected.handle, queryWeight.handle, keyWeight.handle, numHeads, numKvHeads, normCode[kind], eps));
}
