import { ConfigError } from "../../errors.ts";
import type { HeadShape, LayerAttention } from "../../nn/attention.ts";
import type { NormKind } from "../../nn/layer-product.ts";
import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";
import { Entries } from "./entries.ts";
import { activations, type CheckpointEntry } from "./family.ts";
import { rotaryOf } from "./rotary-config.ts";

/** Heads of a model whose queries are as wide as its hidden states. */
export function plainHeads(hiddenSize: number, numHeads: number, names: readonly [string, string]): HeadShape {
  if (hiddenSize % numHeads === 0) return { numHeads, numKvHeads: numHeads, headDim: hiddenSize / numHeads };
  throw new ConfigError(`config.json: "${names[0]}" (${hiddenSize}) must be a multiple of "${names[1]}" (${numHeads})`);
}

/** Heads that share keys and values, and may have a size of their own. */
export function groupedHeads(read: ConfigReader, hiddenSize: number, defaults: { kvHeads?: number; headDim?: number } = {}): HeadShape {
  const numHeads = read.count("num_attention_heads");
  const numKvHeads = read.count("num_key_value_heads", defaults.kvHeads ?? numHeads);
  if (numHeads % numKvHeads !== 0) {
    throw new ConfigError(`config.json: "num_attention_heads" (${numHeads}) must be a multiple of "num_key_value_heads" (${numKvHeads})`);
  }
  return { numHeads, numKvHeads, headDim: read.count("head_dim", defaults.headDim ?? hiddenSize / numHeads) };
}

/** Attention that is the same in every layer: full, unscaled but by 1 / sqrt(headDim), not rotated, unless `own` says otherwise. */
export function everyLayer(numLayers: number, headDim: number, own: Partial<LayerAttention> = {}): readonly LayerAttention[] {
  return new Array<LayerAttention>(numLayers).fill({ scale: headDim ** -0.5, softcap: 0, window: 0, rotary: undefined, ...own });
}

/** Window of each layer: `layer_types` says which ones have it, or `isSliding` where an older file does not. */
export function windowsOf(
  read: ConfigReader, numLayers: number, { window, isSliding }: { window: number; isSliding: (layer: number) => boolean },
): readonly number[] {
  const types = read.perLayer("layer_types", ["sliding_attention", "full_attention"], numLayers);
  return Array.from({ length: numLayers }, (_, i) => ((types ? types[i] === "sliding_attention" : isSliding(i)) ? window : 0));
}

/**
 * The slopes of ALiBi (arXiv:2108.12409): the geometric sequence that starts at 2^(-8 / n) for n a power of two, else that of the next
 * smaller power followed by every other slope of twice that power.
 */
export function alibiSlopes(numHeads: number): readonly number[] {
  const power = 2 ** Math.floor(Math.log2(numHeads));
  const sequence = (n: number) => Array.from({ length: n }, (_, i) => 2 ** (-(8 / n) * (i + 1)));
  return [...sequence(power), ...sequence(2 * power).filter((_, i) => i % 2 === 0).slice(0, numHeads - power)];
}

/** How a family departs from Llama's configuration. */
export interface GatedOptions {
  norm?: { kind: NormKind; epsKey?: string };
  /** Biases of the projections when no key says so. */
  inputBias?: boolean;
  /** Key of the activation, and the one that is meant where it is missing. */
  activation?: readonly [key: string, fallback: string];
  heads?: { kvHeads?: number; headDim?: number };
  /** Share of a head that is rotated when no key says so. */
  rotaryShare?: number;
  tiesEmbeddings?: boolean;
  maxPositions?: number;
}

/** A decoder of Llama's kind (gated MLP, rotary positions, norms in front), as `config.json` describes it. */
export function gatedSpec(read: ConfigReader, options: GatedOptions = {}): DecoderSpec {
  const { norm: { kind, epsKey = "rms_norm_eps" } = { kind: "rms" }, heads, rotaryShare = 1 } = options;
  const [activationKey, activation] = options.activation ?? ["hidden_act", "silu"];
  const hiddenSize = read.count("hidden_size"), numLayers = read.count("num_hidden_layers");
  const shape = groupedHeads(read, hiddenSize, heads);
  const maxPositions = read.count("max_position_embeddings", options.maxPositions ?? 2048);
  const rotary = rotaryOf(read, { headDim: shape.headDim, maxPositions, share: rotaryShare });
  return {
    vocabSize: read.count("vocab_size"), hiddenSize, numLayers, maxPositions,
    norm: { kind, eps: read.number(epsKey, kind === "layer" ? 1e-5 : 1e-6), affine: true, placement: "before" },
    residual: "sequential",
    attention: {
      ...shape, layers: everyLayer(numLayers, shape.headDim, { rotary }), inputBias: options.inputBias ?? false, outputBias: false,
    },
    mlp: {
      kind: "gated", size: read.count("intermediate_size"), activation: read.choice(activationKey, activations, activation), bias: false,
    },
    embedding: { size: hiddenSize },
    finalNorm: true,
    tiesEmbeddings: read.boolean("tie_word_embeddings", options.tiesEmbeddings ?? false),
  };
}

/** `layers` with something else for each. */
export function withLayers(spec: DecoderSpec, change: (layer: LayerAttention, index: number) => Partial<LayerAttention>): DecoderSpec {
  const layers = spec.attention.layers.map((layer, i) => ({ ...layer, ...change(layer, i) }));
  return { ...spec, attention: { ...spec.attention, layers } };
}

/** Names of the norms of a layer, where they are not Llama's. */
const llamaNorms = { attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm" };

/** The tensors of `gatedSpec`'s decoders; `fused` are Phi-3's names for projections that are one matrix. */
export function gatedEntries(
  spec: DecoderSpec, { norms = llamaNorms, fused = false }: { norms?: Readonly<Record<string, string>>; fused?: boolean } = {},
): CheckpointEntry[] {
  const { hiddenSize, vocabSize, mlp, attention } = spec, { numHeads, headDim, headNorm } = attention;
  const entries = new Entries("model.");
  entries.add("embed_tokens.weight", [vocabSize, hiddenSize], { block: "embedding", leaf: "tokens" });
  for (let block = 0; block < spec.numLayers; block++) {
    const at = `layers.${block}`, attend = `${at}.self_attn`;
    const matrix = (name: string, shape: readonly [number, number], leaf: string, row: number, bias: boolean) =>
      entries.linear(`${at}.${name}`, shape, { block, leaf, row }, { bias });
    entries.projections(fused ? `${attend}.qkv_proj` : [`${attend}.q_proj`, `${attend}.k_proj`, `${attend}.v_proj`], spec, block);
    matrix("self_attn.o_proj", [hiddenSize, numHeads * headDim], "attentionOutput", 0, attention.outputBias);
    if (headNorm && !headNorm.perHead) {
      entries.add(`${attend}.q_norm.weight`, [headDim], { block, leaf: "queryNorm" });
      entries.add(`${attend}.k_norm.weight`, [headDim], { block, leaf: "keyNorm" });
    }
    if (fused) {
      matrix("mlp.gate_up_proj", [2 * mlp.size, hiddenSize], "gateUp", 0, mlp.bias);
    } else {
      matrix("mlp.gate_proj", [mlp.size, hiddenSize], "gateUp", 0, mlp.bias);
      matrix("mlp.up_proj", [mlp.size, hiddenSize], "gateUp", mlp.size, mlp.bias);
    }
    matrix("mlp.down_proj", [hiddenSize, mlp.size], "down", 0, mlp.bias);
    for (const [leaf, name] of Object.entries(norms)) entries.norm(`${at}.${name}`, spec, block, leaf);
  }
  entries.norm("norm", spec, "final", "norm");
  return entries.list;
}

/** Old checkpoints hold the frequencies of their rotary positions. */
export function isFrequencies(name: string): boolean {
  return name.endsWith("rotary_emb.inv_freq");
}
