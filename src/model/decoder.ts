import type { DType } from "../native/binding.ts";
import { type AttentionContext, packedAttention } from "../nn/attention.ts";
import { embedding } from "../nn/functional.ts";
import { type LayerProduct, layerProduct, multiply, type Norm, normalize, type ProductExtras } from "../nn/layer-product.ts";
import { type LeafSpec, ParameterBlock } from "../nn/parameter-block.ts";
import { rotaryTables } from "../nn/rotary.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type LayerRunner, plainRunner } from "./layer-runner.ts";
import type { PackedRows } from "./packing.ts";
import type { DecoderSpec } from "./spec.ts";

/** Who runs the blocks, and where attention finds keys and values. */
export interface ForwardOptions {
  runner?: LayerRunner | undefined;
  /** Left out: packed causal attention within the pass. */
  attention?: AttentionContext;
  /** Left out: `layerProduct`. */
  product?: LayerProduct;
  /** [n] int64: tokens whose states are wanted, in this order; behind attention the last layer computes only them. Left out: all. */
  only?: Tensor;
}

/** A decoder-only transformer that interprets a `DecoderSpec`; its parameters are a list of blocks. */
export class Decoder {
  readonly spec: DecoderSpec;
  /** Token table, learned positions, projection of narrow embeddings. */
  readonly embedding: ParameterBlock;
  readonly layers: readonly ParameterBlock[];
  /** Weights of the final norm and projection back to narrow embeddings; undefined where the model has neither. */
  readonly final: ParameterBlock | undefined;

  /** @param flats buffers by the names of their blocks, to look into them instead of new ones */
  constructor(spec: DecoderSpec, dtype: DType, flats?: ReadonlyMap<string, Tensor>) {
    this.spec = spec;
    const block = (name: string, leaves: readonly LeafSpec[]) => new ParameterBlock(name, leaves, dtype, flats?.get(name));
    this.embedding = block("embedding", embeddingLeaves(spec));
    this.layers = Array.from({ length: spec.numLayers }, (_, i) => block(`layer ${i}`, layerLeaves(spec)));
    const leaves = finalLeaves(spec);
    this.final = leaves.length > 0 ? block("final", leaves) : undefined;
  }

  /** All blocks, in the order in which a forward uses them. */
  get blocks(): readonly ParameterBlock[] {
    return [this.embedding, ...this.layers, ...(this.final ? [this.final] : [])];
  }

  /** Hidden states of packed sequences: [total, embedding size], or [n, embedding size], after the final norm and projection. */
  forward(rows: PackedRows, options: ForwardOptions = {}): Tensor {
    const { runner = plainRunner, product = layerProduct, only } = options;
    let x = runner.run(this.embedding, (tokens) => this.#embed(tokens, rows.positions), rows.tokens.detach());
    const attention = options.attention ?? this.#packedAttention(rows, x);
    for (const [index, layer] of this.layers.entries()) {
      const kept = index === this.layers.length - 1 ? only : undefined;
      x = runner.run(layer, (input) => this.#layer(layer, input, product, (projected) => attention.attend(index, projected), kept), x);
    }
    const { final } = this;
    return final ? runner.run(final, (input) => this.#finish(final, input), x) : this.#finish(undefined, x);
  }

  #packedAttention(rows: PackedRows, like: Tensor): AttentionContext {
    const { positions, attention } = this.spec;
    const longest = Math.max(...rows.offsets.slice(1).map((end, i) => end - (rows.offsets[i] ?? 0)));
    return packedAttention(rows.offsets, attention, positions.kind === "rotary" ? rotaryTables(positions, longest, like.dtype) : undefined);
  }

  #embed(tokens: Tensor, positions: Tensor): Tensor {
    const block = this.embedding;
    const projection = block.find("projection");
    let x = embedding(block.leaf("tokens"), tokens);
    if (projection) x = multiply(x, projection);
    if (this.spec.positions.kind === "learned") x = x.add(embedding(block.leaf("positions"), positions.add(this.spec.positions.offset)));
    return x;
  }

  /** x [total, hidden] -> [total, hidden], or of the `only` tokens [n, hidden] */
  #layer(block: ParameterBlock, x: Tensor, product: LayerProduct, attend: (projected: Tensor) => Tensor, only?: Tensor): Tensor {
    const { norm: { placement }, mlp } = this.spec;
    const kept = (all: Tensor) => (only ? all.indexSelect(0, only) : all);
    const attentionNorm = this.#norm(block, "attentionNorm"), mlpNorm = this.#norm(block, "mlpNorm");
    const before = placement === "before";
    const attended = attend(product(x, block, "queryKeyValue", before ? { norm: attentionNorm } : {}));
    const summed = product(kept(attended), block, "attentionOutput", { residual: kept(x) });
    const h = before ? summed : normalize(summed, attentionNorm);
    const inner: ProductExtras = { norm: before ? mlpNorm : undefined, activation: mlp.activation, gated: mlp.kind === "gated" };
    const transformed = product(product(h, block, mlp.kind === "gated" ? "gateUp" : "up", inner), block, "down", { residual: h });
    return before ? transformed : normalize(transformed, mlpNorm);
  }

  /** A final norm without weights has no block. */
  #finish(block: ParameterBlock | undefined, x: Tensor): Tensor {
    const normed = this.spec.finalNorm ? normalize(x, this.#norm(block, "norm")) : x;
    const projection = block?.find("projection");
    return projection ? multiply(normed, projection) : normed;
  }

  #norm(block: ParameterBlock | undefined, name: string): Norm {
    const { kind, eps } = this.spec.norm;
    return { kind, weight: block?.find(name), bias: block?.find(`${name}Bias`), eps };
  }
}

function normLeaves(spec: DecoderSpec, name: string): LeafSpec[] {
  if (!spec.norm.affine) return [];
  const weight = { name, shape: [spec.hiddenSize] };
  return spec.norm.kind === "layer" ? [weight, { name: `${name}Bias`, shape: [spec.hiddenSize] }] : [weight];
}

function withBias(name: string, shape: readonly [number, number], bias: boolean): LeafSpec[] {
  return bias ? [{ name, shape }, { name: `${name}Bias`, shape: [shape[0]] }] : [{ name, shape }];
}

function embeddingLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, vocabSize, embedding, positions, maxPositions } = spec;
  return [
    { name: "tokens", shape: [vocabSize, embedding.size] },
    ...(positions.kind === "learned" ? [{ name: "positions", shape: [maxPositions + positions.offset, hiddenSize] }] : []),
    ...(embedding.size !== hiddenSize ? [{ name: "projection", shape: [hiddenSize, embedding.size] }] : []),
  ];
}

function layerLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, attention, mlp } = spec;
  const { numHeads, numKvHeads, headDim, inputBias, outputBias } = attention;
  return [
    ...withBias("queryKeyValue", [(numHeads + 2 * numKvHeads) * headDim, hiddenSize], inputBias),
    ...withBias("attentionOutput", [hiddenSize, numHeads * headDim], outputBias),
    ...(mlp.kind === "gated" ? withBias("gateUp", [2 * mlp.size, hiddenSize], mlp.bias) : withBias("up", [mlp.size, hiddenSize], mlp.bias)),
    ...withBias("down", [hiddenSize, mlp.size], mlp.bias),
    ...normLeaves(spec, "attentionNorm"),
    ...normLeaves(spec, "mlpNorm"),
  ];
}

function finalLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, embedding, finalNorm } = spec;
  return [
    ...(embedding.size !== hiddenSize ? [{ name: "projection", shape: [embedding.size, hiddenSize] }] : []),
    ...(finalNorm ? normLeaves(spec, "norm") : []),
  ];
}
