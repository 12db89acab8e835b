import type { DType } from "../native/binding.ts";
import { type AttentionContext, packedAttention } from "../nn/attention.ts";
import { activate, embedding, layerNorm, type Linear, linear, rmsNorm } from "../nn/functional.ts";
import { type LeafSpec, ParameterBlock } from "../nn/parameter-block.ts";
import { type RotaryTables, rotaryTables, rotate } from "../nn/rotary.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type LayerRunner, plainRunner } from "./layer-runner.ts";
import type { PackedRows } from "./packing.ts";
import type { DecoderSpec } from "./spec.ts";

/** Who runs the blocks, and where attention finds keys and values. */
export interface ForwardOptions {
  runner?: LayerRunner | undefined;
  /** Left out: packed causal attention within the pass. */
  attention?: AttentionContext;
  /** Left out: `linear`; decoding passes the product for few rows, which has no gradient. */
  product?: Linear;
}

/** What the layers of one pass share. */
interface Pass {
  rotary: RotaryTables | undefined;
  attention: AttentionContext;
  product: Linear;
}

/** A decoder-only transformer that interprets a `DecoderSpec`; its parameters are a list of blocks. */
export class Decoder {
  readonly spec: DecoderSpec;
  /** Token table, learned positions, projection of narrow embeddings. */
  readonly embedding: ParameterBlock;
  readonly layers: readonly ParameterBlock[];
  /** Weights of the final norm and projection back to narrow embeddings; undefined where the model has neither. */
  readonly final: ParameterBlock | undefined;

  constructor(spec: DecoderSpec, dtype: DType) {
    this.spec = spec;
    this.embedding = new ParameterBlock("embedding", embeddingLeaves(spec), dtype);
    this.layers = Array.from({ length: spec.numLayers }, (_, i) => new ParameterBlock(`layer ${i}`, layerLeaves(spec), dtype));
    const leaves = finalLeaves(spec);
    this.final = leaves.length > 0 ? new ParameterBlock("final", leaves, dtype) : undefined;
  }

  /** All blocks, in the order in which a forward uses them. */
  get blocks(): readonly ParameterBlock[] {
    return [this.embedding, ...this.layers, ...(this.final ? [this.final] : [])];
  }

  /** Hidden states of packed sequences: [total, embedding size], after the final norm and projection. */
  forward(rows: PackedRows, options: ForwardOptions = {}): Tensor {
    const { runner = plainRunner, attention = packedAttention(rows.offsets), product = linear } = options;
    let x = runner.run(this.embedding, (tokens) => this.#embed(tokens, rows.positions), rows.tokens);
    const { positions } = this.spec;
    const pass = { rotary: positions.kind === "rotary" ? rotaryTables(positions, rows.positions, x) : undefined, attention, product };
    for (const [index, layer] of this.layers.entries()) {
      x = runner.run(layer, (input) => this.#layer(index, layer, input, pass), x);
    }
    const { final } = this;
    return final ? runner.run(final, (input) => this.#finish(final, input), x) : this.#finish(undefined, x);
  }

  #embed(tokens: Tensor, positions: Tensor): Tensor {
    const block = this.embedding;
    const projection = block.find("projection");
    let x = embedding(block.leaf("tokens"), tokens);
    if (projection) x = linear(x, projection);
    if (this.spec.positions.kind === "learned") x = x.add(embedding(block.leaf("positions"), positions.add(this.spec.positions.offset)));
    return x;
  }

  #layer(index: number, block: ParameterBlock, x: Tensor, pass: Pass): Tensor {
    const before = this.spec.norm.placement === "before";
    const attended = this.#attention(index, block, before ? this.#norm(block, "attentionNorm", x) : x, pass);
    const h = before ? x.add(attended) : this.#norm(block, "attentionNorm", x.add(attended));
    const transformed = this.#mlp(block, before ? this.#norm(block, "mlpNorm", h) : h, pass);
    return before ? h.add(transformed) : this.#norm(block, "mlpNorm", h.add(transformed));
  }

  /** x [total, hidden] -> [total, hidden] */
  #attention(index: number, block: ParameterBlock, x: Tensor, { rotary, attention, product }: Pass): Tensor {
    const { numHeads, numKvHeads, headDim } = this.spec.attention;
    const total = x.shape[0] ?? 0;
    const projected = product(x, block.leaf("queryKeyValue"), block.find("queryKeyValueBias")).reshape([total, -1, headDim]);
    const rotating = numHeads + numKvHeads; // queries and keys lie together, so one rotation serves both
    const [queryKey, value] = split(projected, 1, rotating, numKvHeads);
    const [query, key] = split(rotary ? rotate(queryKey, rotary) : queryKey, 1, numHeads, numKvHeads);
    const attended = attention.attend(index, query, key, value);
    return product(attended, block.leaf("attentionOutput"), block.find("attentionOutputBias"));
  }

  #mlp(block: ParameterBlock, x: Tensor, { product }: Pass): Tensor {
    const { kind, size, activation } = this.spec.mlp;
    let h: Tensor;
    if (kind === "gated") {
      const [gate, up] = split(product(x, block.leaf("gateUp"), block.find("gateUpBias")), 1, size, size);
      h = activate(gate, activation).mul(up);
    } else {
      h = activate(product(x, block.leaf("up"), block.find("upBias")), activation);
    }
    return product(h, block.leaf("down"), block.find("downBias"));
  }

  /** A final norm without weights has no block. */
  #finish(block: ParameterBlock | undefined, x: Tensor): Tensor {
    const normed = this.spec.finalNorm ? this.#norm(block, "norm", x) : x;
    const projection = block?.find("projection");
    return projection ? linear(normed, projection) : normed;
  }

  #norm(block: ParameterBlock | undefined, name: string, x: Tensor): Tensor {
    const { kind, eps } = this.spec.norm;
    return kind === "rms" ? rmsNorm(x, block?.find(name), eps) : layerNorm(x, block?.find(name), block?.find(`${name}Bias`), eps);
  }
}

/** Two views of what one fused projection gave. */
function split(x: Tensor, dim: number, first: number, second: number): [Tensor, Tensor] {
  return x.split([first, second], dim) as [Tensor, Tensor];
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
