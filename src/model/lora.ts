import { ConfigError } from "../errors.ts";
import { type LayerProduct, layerProduct } from "../nn/layer-product.ts";
import { type AdaptedLinear, BlockLora, type LoraFactors } from "../nn/lora.ts";
import { droppedProduct } from "../nn/lora-dropout.ts";
import type { ParameterBlock } from "../nn/parameter-block.ts";
import { gradEnabled, noGrad } from "../tensor/autograd.ts";
import { Generator } from "../tensor/create.ts";
import type { CheckpointEntry } from "./families/family.ts";
import { leafShape, toCheckpoint } from "./layout.ts";

/** How a model gets low-rank adapters (LoRA, arXiv:2106.09685). */
export interface LoraOptions {
  /** Width of the adapters' inside. */
  rank: number;
  /** The adapters' product is scaled by alpha / rank; default 16. */
  alpha?: number;
  /** Share of the adapters' inputs that is dropped in training; default 0. */
  dropout?: number;
  /**
   * Which linears of the layers, by patterns with commas between: the end of a name from a dot on, with `*` for any characters
   * ("q_proj,v_proj", "layers.0.*"). Default "all-linear", all of them.
   */
  targets?: string;
  /** Whether only the adapters (and a reward model's head) train; otherwise embeddings, norms, biases and head do too. Default true. */
  onlyLora?: boolean;
  /** Of the adapters' start and of dropout; default 0. */
  seed?: number;
}

/** The factors of one linear, or their gradients. */
export interface NamedFactors extends LoraFactors {
  readonly module: string;
}

/** The adapters of a model. */
export class Lora {
  readonly options: Required<LoraOptions>;
  /** Those layers' that have any. */
  readonly layers: readonly BlockLora[];
  #numForwards = 0;

  /**
   * @param layers of the decoder
   * @param entries every tensor of the model's checkpoints
   * @throws {ConfigError} for a rank out of range, or a pattern that matches no linear
   */
  constructor(layers: readonly ParameterBlock[], entries: readonly CheckpointEntry[], options: LoraOptions) {
    this.options = { alpha: 16, dropout: 0, targets: ALL_LINEAR, onlyLora: true, seed: 0, ...options };
    const { rank, alpha, dropout, seed, targets } = this.options;
    if (!(alpha > 0)) throw new ConfigError(`LoRA alpha: expected a number above 0, got ${alpha}`);
    if (!(dropout >= 0 && dropout < 1)) throw new ConfigError(`LoRA dropout: expected a number in [0, 1), got ${dropout}`);
    const chosen = chooseLinears(entries, targets);
    checkRank(rank, chosen.map(({ linear }) => linear));
    const generator = new Generator(seed);
    this.layers = layers.flatMap((base, layer) => {
      const linears = chosen.filter((choice) => choice.layer === layer).map(({ linear }) => linear);
      if (linears.length === 0) return [];
      base.lora = new BlockLora(base, linears, { rank, scale: alpha / rank, generator });
      return [base.lora];
    });
  }

  /** The adapters' own parameters. */
  get blocks(): readonly ParameterBlock[] { return this.layers.map(({ parameters }) => parameters); }
  get linears(): readonly AdaptedLinear[] { return this.layers.flatMap(({ linears }) => linears); }

  /** Brings what the model multiplies with up to date; called when the adapters have changed. */
  merge(): void {
    for (const layer of this.layers) layer.merge();
  }

  /** Gradients of the factors of every linear, while they train. */
  gradients(): readonly NamedFactors[] {
    return noGrad(() => this.layers.flatMap((layer) => layer.linears.flatMap((linear) => {
      const a = layer.parameters.gradientOf(`${linear.matrix}A`), b = layer.parameters.gradientOf(`${linear.matrix}B`);
      return a && b ? [stored(linear, layer.cut(linear.module, a, b))] : [];
    })));
  }
  /** The factors of every linear. */
  factors(): readonly NamedFactors[] {
    return noGrad(() => this.layers.flatMap((layer) => layer.linears.map((linear) => stored(linear, layer.factorsOf(linear.module)))));
  }

  /** What a forward multiplies with: the merged matrices, except in a training forward with dropout. */
  product(): LayerProduct {
    const { dropout, seed } = this.options;
    if (dropout === 0 || !gradEnabled()) return layerProduct;
    const forward = this.#numForwards++, modules = new Map(this.linears.map(({ module }, i) => [module, i]));
    return droppedProduct(dropout, (module) => (seed + forward * modules.size + (modules.get(module) ?? 0)) % 2 ** 32);
  }

  /** For messages: "LoRA of rank 8 on 210 linears, 2,442,240 parameters". */
  toString(): string {
    const count = this.blocks.reduce((sum, block) => sum + block.numParameters, 0);
    return `LoRA of rank ${this.options.rank} on ${this.linears.length} linears, ${count.toLocaleString("en-US")} parameters`;
  }
}

/** Factors with the outputs in the checkpoint's order. */
function stored({ module, order, rows }: AdaptedLinear, { a, b }: LoraFactors): NamedFactors {
  return { module, a, b: toCheckpoint({ shape: [rows], ...(order ? { order } : {}) }, b) };
}

const ALL_LINEAR = "all-linear";

interface Choice {
  layer: number;
  linear: AdaptedLinear;
}

/** @throws {ConfigError} for a pattern that matches no linear */
function chooseLinears(entries: readonly CheckpointEntry[], targets: string): Choice[] {
  const all = entries.flatMap((entry): Choice[] => {
    const { name, block, leaf, row, order, transposed } = entry, [rows = 0, width] = leafShape(entry);
    if (typeof block !== "number" || width === undefined) return [];
    const stored = { ...(order ? { order } : {}), ...(transposed ? { transposed } : {}) };
    return [{ layer: block, linear: { module: moduleOf(name), matrix: leaf, row, rows, width, ...stored } }];
  });
  if (targets.trim() === ALL_LINEAR) return all;
  const patterns = targets.split(",").map((pattern) => pattern.trim());
  const tests = patterns.map((pattern) => {
    const test = testOf(pattern);
    if (all.some(({ linear }) => test.test(linear.module))) return test;
    const names = [...new Set(all.map(({ linear }) => linear.module.split(".").at(-1)))].join(", ");
    throw new ConfigError(
      `LoRA targets: "${pattern}" matches no linear of the model's layers; there are ${names}, and ${ALL_LINEAR} for all`,
    );
  });
  return all.filter(({ linear }) => tests.some((test) => test.test(linear.module)));
}

/** A name matches from its beginning or from a dot on. */
function testOf(pattern: string): RegExp {
  const escaped = pattern.split("*").map((text) => text.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join(".*");
  return new RegExp(`^(.*\\.)?${escaped}$`);
}

/** @throws {ConfigError} when a product of that rank would be no smaller than the matrix */
function checkRank(rank: number, linears: readonly AdaptedLinear[]): void {
  const smallest = linears.reduce((least, linear) => (sideOf(linear) < sideOf(least) ? linear : least));
  if (Number.isInteger(rank) && rank >= 1 && rank <= sideOf(smallest)) return;
  throw new ConfigError(
    `LoRA rank: expected a whole number in [1, ${sideOf(smallest)}], the smaller side of ${smallest.module} ` +
      `[${smallest.rows}, ${smallest.width}], got ${rank}`,
  );
}

function sideOf({ rows, width }: AdaptedLinear): number {
  return Math.min(rows, width);
}

/** The module that a weight belongs to. */
export function moduleOf(name: string): string {
  return name.replace(/\.weight$/, "");
}
