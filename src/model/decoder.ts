import type { DType } from "../native/binding.ts";
import { type AttentionContext, attentionTables, normalizeHeads, packedAttention } from "../nn/attention.ts";
import { embedding } from "../nn/functional.ts";
import { type LayerProduct, layerProduct, multiply, type Norm, normalize, type ProductExtras } from "../nn/layer-product.ts";
import { type LeafSpec, ParameterBlock } from "../nn/parameter-block.ts";
import { full } from "../tensor/create.ts";
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
    const { attention } = this.spec;
    const longest = Math.max(...rows.offsets.slice(1).map((end, i) => end - (rows.offsets[i] ?? 0)));
    return packedAttention(rows.offsets, attention, attentionTables(attention, longest, like.dtype));
  }

  #embed(tokens: Tensor, positions: Tensor): Tensor {
    const block = this.embedding, { scale, norm, positions: learned } = this.spec.embedding;
    const projection = block.find("projection");
    let x = embedding(block.leaf("tokens"), tokens);
    if (scale !== undefined) x = x.mul(full([1], scale, "float32").to(x.dtype));
    if (projection) x = multiply(x, projection);
    if (learned) x = x.add(embedding(block.leaf("positions"), positions.add(learned.offset)));
    return norm ? normalize(x, this.#norm(block, "norm")) : x;
  }

  /** x [total, hidden] -> [total, hidden], or of the `only` tokens [n, hidden] */
  #layer(block: ParameterBlock, x: Tensor, product: LayerProduct, attend: (projected: Tensor) => Tensor, only?: Tensor): Tensor {
    const { norm: { placement }, residual, mlp } = this.spec;
    const norm = (name: string) => this.#norm(block, name);
    const before = placement === "after" ? undefined : norm("attentionNorm");
    const attended = attend(this.#normHeads(block, product(x, block, "queryKeyValue", { norm: before })));
    const [kept, input] = only ? [attended, x].map((all) => all.indexSelect(0, only)) as [Tensor, Tensor] : [attended, x];
    /** residual + the product, normalised where the placement wants it. */
    const add = (y: Tensor, matrix: string, sum: Tensor, name: string) => {
      if (placement === "around") return normalize(product(y, block, matrix), norm(`${name}OutputNorm`)).add(sum);
      const added = product(y, block, matrix, { residual: sum });
      return placement === "after" ? normalize(added, norm(`${name}Norm`)) : added;
    };
    const h = add(kept, "attentionOutput", input, "attention");
    const inner: ProductExtras = {
      norm: residual === "parallel-one-norm" ? before : placement === "after" ? undefined : norm("mlpNorm"),
      activation: mlp.activation, gated: mlp.kind === "gated",
    };
    const read = residual === "sequential" ? h : input;
    return add(product(read, block, mlp.kind === "gated" ? "gateUp" : "up", inner), "down", h, "mlp");
  }

  #normHeads(block: ParameterBlock, projected: Tensor): Tensor {
    const { attention } = this.spec, { headNorm } = attention;
    if (!headNorm) return projected;
    const [queryWeight, keyWeight] = [block.leaf("queryNorm"), block.leaf("keyNorm")];
    return normalizeHeads(projected, attention, { ...headNorm, queryWeight, keyWeight });
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

function normLeaves({ norm, hiddenSize }: DecoderSpec, name: string): LeafSpec[] {
  if (!norm.affine) return [];
  const weight = { name, shape: [hiddenSize] };
  return norm.kind === "layer" ? [weight, { name: `${name}Bias`, shape: [hiddenSize] }] : [weight];
}

function withBias(name: string, shape: readonly [number, number], bias: boolean): LeafSpec[] {
  return bias ? [{ name, shape }, { name: `${name}Bias`, shape: [shape[0]] }] : [{ name, shape }];
}

function embeddingLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, vocabSize, embedding: { size, positions, norm }, maxPositions } = spec;
  return [
    { name: "tokens", shape: [vocabSize, size] },
    ...(positions ? [{ name: "positions", shape: [maxPositions + positions.offset, hiddenSize] }] : []),
    ...(size !== hiddenSize ? [{ name: "projection", shape: [hiddenSize, size] }] : []),
    ...(norm ? normLeaves(spec, "norm") : []),
  ];
}

function normNames({ residual, norm }: DecoderSpec): string[] {
  if (residual === "parallel-one-norm") return ["attentionNorm"];
  return ["attentionNorm", ...(norm.placement === "around" ? ["attentionOutputNorm", "mlpNorm", "mlpOutputNorm"] : ["mlpNorm"])];
}

function layerLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, attention, mlp } = spec;
  const { numHeads, numKvHeads, headDim, inputBias, outputBias, headNorm } = attention;
  const headNormLeaf = (name: string, heads: number) => ({ name, shape: [headNorm?.perHead ? heads * headDim : headDim] });
  return [
    ...withBias("queryKeyValue", [(numHeads + 2 * numKvHeads) * headDim, hiddenSize], inputBias),
    ...withBias("attentionOutput", [hiddenSize, numHeads * headDim], outputBias),
    ...(mlp.kind === "gated" ? withBias("gateUp", [2 * mlp.size, hiddenSize], mlp.bias) : withBias("up", [mlp.size, hiddenSize], mlp.bias)),
    ...withBias("down", [hiddenSize, mlp.size], mlp.bias),
    ...(headNorm ? [headNormLeaf("queryNorm", numHeads), headNormLeaf("keyNorm", numKvHeads)] : []),
    ...normNames(spec).flatMap((name) => normLeaves(spec, name)),
  ];
}

function finalLeaves(spec: DecoderSpec): LeafSpec[] {
  const { hiddenSize, embedding, finalNorm } = spec;
  return [
    ...(embedding.size !== hiddenSize ? [{ name: "projection", shape: [embedding.size, hiddenSize] }] : []),
    ...(finalNorm ? normLeaves(spec, "norm") : []),
  ];
}
