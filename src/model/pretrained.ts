import { CheckpointError } from "../errors.ts";
import type { DType } from "../native/binding.ts";
import { layerProduct } from "../nn/layer-product.ts";
import type { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tidy } from "../tensor/tidy.ts";
import type { CheckpointSource } from "./checkpoint-source.ts";
import { Decoder, type ForwardOptions } from "./decoder.ts";
import { resolveDtype } from "./dtype.ts";
import { ConfigReader } from "./families/config-reader.ts";
import type { CheckpointEntry, Family, ModelConfig } from "./families/family.ts";
import { familyOf } from "./families/registry.ts";
import { storedName } from "./family-names.ts";
import { writeModelFolder } from "./formats/folder-writer.ts";
import { type LayerRunner, plainRunner } from "./layer-runner.ts";
import { leafShape, toCheckpoint, toLeaf } from "./layout.ts";
import { Lora, type LoraOptions, moduleOf } from "./lora.ts";
import { factorName, writePeftAdapter } from "./peft.ts";
import type { DecoderSpec } from "./spec.ts";

/** How a model is loaded. */
export interface LoadOptions {
  /** Default "auto": bfloat16 where the processor computes it in hardware, float32 elsewhere. */
  dtype?: "auto" | "float32" | "bfloat16";
  /** Default "auto", which is the CPU; "cuda" is refused in this version. */
  device?: "auto" | "cpu" | "cuda";
  /** Folder of a LoRA adapter in PEFT's format, which is merged into the weights as they are read. */
  adapter?: string | undefined;
}

/** What a model is made of, without its weights. */
export interface ModelParts {
  family: Family;
  spec: DecoderSpec;
  config: ModelConfig;
  generationConfig: ModelConfig;
  companions: ReadonlyMap<string, string>;
  dtype: DType;
  /** Dtype of a saved folder unless asked otherwise. */
  savedDtype: DType;
  /** Where it was loaded from. */
  path: string;
  /** Buffers by the names of their blocks, to look into them instead of new ones. */
  flats?: ReadonlyMap<string, Tensor>;
}

/** Gives a flat buffer in a block's layout, e.g. the optimizer's float32 master of it. */
export type FlatReader = (block: ParameterBlock) => Tensor;

/** What language model, reward model and critic share: a decoder, one further block, and their life on disk. */
export abstract class PretrainedModel {
  readonly family: Family;
  readonly decoder: Decoder;
  readonly dtype: DType;
  readonly companions: ReadonlyMap<string, string>;
  readonly savedDtype: DType;
  /** The folder or file it was loaded from. */
  readonly path: string;
  /** `config.json` as it will be saved, but for class name and dtype. */
  config: ModelConfig;
  generationConfig: ModelConfig;
  /** Runs the blocks of every forward; replaced to recompute, shard or offload. */
  runner: LayerRunner = plainRunner;
  #frozen = false;
  #lora: Lora | undefined;
  /** What `fill` read: the entries matter because a checkpoint may hold tensors that this model did not take from it. */
  #source: { checkpoint: CheckpointSource; entries: readonly CheckpointEntry[] } | undefined;

  constructor(parts: ModelParts) {
    this.family = parts.family;
    this.config = parts.config;
    this.generationConfig = parts.generationConfig;
    this.companions = parts.companions;
    this.dtype = parts.dtype;
    this.savedDtype = parts.savedDtype;
    this.path = parts.path;
    this.decoder = new Decoder(parts.spec, parts.dtype, parts.flats);
  }

  /** All blocks in the order of use. */
  abstract get blocks(): readonly ParameterBlock[];
  /** Every tensor of this model's checkpoints. */
  abstract get entries(): readonly CheckpointEntry[];
  /** The class name that transformers loads the folder with. */
  abstract get architecture(): string;
  /** What PEFT calls the use that adapters were trained for. */
  protected abstract get taskType(): "CAUSAL_LM" | "SEQ_CLS";

  get spec(): DecoderSpec { return this.decoder.spec; }
  /** Number of parameters, padding left out. */
  get numParameters(): number {
    return this.blocks.reduce((sum, block) => sum + block.numParameters, 0);
  }

  /**
   * Gives linears of the layers low-rank adapters, which train from now on in place of the weights.
   *
   * @throws {ConfigError} for a rank out of range, or targets that match no linear
   */
  addLora(options: LoraOptions): Lora {
    if (this.#lora || this.#frozen) throw new Error("internal: adapters were asked for twice, or of a frozen model");
    for (const block of this.blocks) block.freeze();
    this.#lora = new Lora(this.decoder.layers, this.entries, options);
    return this.#lora;
  }
  /** The adapters, if the model has any. */
  get lora(): Lora | undefined { return this.#lora; }

  /** Blocks that train even where only adapters do. */
  protected get newBlocks(): readonly ParameterBlock[] { return []; }
  /** Who runs the blocks of a training forward, and what they multiply with. */
  protected get forwardOptions(): ForwardOptions { return { runner: this.runner, product: this.#lora?.product() ?? layerProduct }; }

  /** For messages: "LlamaForCausalLM, 134.5 M parameters, bfloat16", and the adapters. */
  describe(): string {
    const size = `${this.architecture}, ${(this.numParameters / 1e6).toFixed(1)} M parameters, ${this.dtype}`;
    return this.#lora ? `${size}; ${this.#lora}` : size;
  }

  /** Makes the parameters train, or the adapters where there are some; `loss` does it by itself. */
  enableGradients(): void {
    if (this.#frozen) throw new Error("internal: a frozen model was asked for gradients");
    for (const block of [...(this.#lora?.blocks ?? []), ...this.newBlocks]) block.enableGradients();
    if (this.#lora?.options.onlyLora) return;
    const { layers } = this.decoder;
    for (const block of this.blocks) block.enableGradients(this.#lora && layers.includes(block) ? "vectors" : "all");
  }
  /** Makes this model one that only scores. */
  freeze(): this {
    this.#frozen = true;
    this.releaseSource();
    for (const block of this.#allBlocks) block.freeze();
    return this;
  }
  get #allBlocks(): readonly ParameterBlock[] { return [...this.blocks, ...(this.#lora?.blocks ?? [])]; }
  /** The blocks that have a gradient, adapters' included. */
  get trainedBlocks(): readonly ParameterBlock[] { return this.#allBlocks.filter(({ gradient }) => gradient); }
  zeroGradients(): void {
    for (const block of this.trainedBlocks) block.gradient?.zero_();
  }
  /** Gives the gradients' memory back; `enableGradients` makes them anew, of zeros. */
  releaseGradients(): void {
    for (const block of this.trainedBlocks) block.releaseGradient();
  }

  /** Every parameter by its checkpoint name, in its own dtype; views of the flat buffers where the checkpoint lays a tensor out alike. */
  parameters(): Map<string, Tensor> {
    const parameters = new Map(this.entries.map((entry) => [entry.name, this.#storedForm(entry, this.blockOf(entry).flat)]));
    for (const { module, a, b } of this.#lora?.factors() ?? []) {
      parameters.set(factorName(module, "A"), a).set(factorName(module, "B"), b);
    }
    return parameters;
  }
  /** Gradient of every parameter that trains by its checkpoint name, float32; views as `parameters` gives them. */
  gradients(): Map<string, Tensor> {
    const gradients = new Map<string, Tensor>();
    const add = (name: string, gradient: Tensor | undefined) => void (gradient && gradients.set(name, gradient));
    for (const entry of this.entries) {
      const gradient = this.blockOf(entry).gradientOf(entry.leaf);
      add(entry.name, gradient && noGrad(() => toCheckpoint(entry, rowsOf(entry, gradient))));
    }
    for (const { module, a, b } of this.#lora?.gradients() ?? []) {
      gradients.set(factorName(module, "A"), a).set(factorName(module, "B"), b);
    }
    return gradients;
  }

  /** The block that holds a checkpoint's tensor. */
  protected abstract blockOf(entry: CheckpointEntry): ParameterBlock;

  /** The part of a flat buffer that a checkpoint's tensor fills. */
  #rowsOf(entry: CheckpointEntry, flat: Tensor): Tensor {
    return noGrad(() => rowsOf(entry, this.blockOf(entry).viewOf(flat, entry.leaf)));
  }

  /** The same as the checkpoint has it. */
  #storedForm(entry: CheckpointEntry, flat: Tensor): Tensor { return toCheckpoint(entry, this.#rowsOf(entry, flat)); }

  /** Copies the tensors of a checkpoint into the blocks; the source is kept, since the optimizer's master starts from its precision. */
  protected fill(source: CheckpointSource, entries: readonly CheckpointEntry[] = this.entries): void {
    this.#source = { checkpoint: source, entries };
    noGrad(() => {
      for (const entry of entries) {
        tidy(() => void this.#rowsOf(entry, this.blockOf(entry).flat).copy_(toLeaf(entry, source.read(entry.name))));
      }
    });
  }

  /**
   * [elements] float32: what the optimizer's master copy of a block starts from. Where the model runs in bfloat16 it is
   * read from the checkpoint again, in the checkpoint's own precision.
   */
  masterOf(block: ParameterBlock): Tensor {
    const source = this.#source;
    return noGrad(() => {
      const master = zeros([block.flat.size], "float32").copy_(block.flat);
      if (source && this.dtype !== "float32") {
        for (const entry of source.entries) {
          if (this.blockOf(entry) !== block) continue;
          tidy(() => void this.#rowsOf(entry, master).copy_(toLeaf(entry, source.checkpoint.read(entry.name))));
        }
      }
      return master;
    });
  }
  /** Lets go of the checkpoint that `masterOf` reads; the optimizer calls it when it has its masters. */
  releaseSource(): void {
    this.#source?.checkpoint.close();
    this.#source = undefined;
  }

  /**
   * The files of a self-contained Hugging Face folder, adapters merged, are written into `dir`, which is made if need be; weights of more
   * than `maxShardSize` bytes (default 5e9) as several files with an index.
   */
  async save(dir: string, options: { dtype?: DType; flatOf?: FlatReader; maxShardSize?: number } = {}): Promise<void> {
    const flatOf = options.flatOf ?? ((block) => block.flat);
    let last: { block: ParameterBlock; flat: Tensor } | undefined; // of the blocks that are asked for one is in memory
    const rows = (entry: CheckpointEntry): Tensor => {
      const block = this.blockOf(entry);
      if (last?.block !== block) last = { block, flat: flatOf(block) };
      const base = this.#rowsOf(entry, last.flat), module = moduleOf(entry.name), { lora } = block;
      return toCheckpoint(entry, lora?.has(module) ? noGrad(() => base.to("float32").add(lora.delta(module))) : base);
    };
    writeModelFolder(dir, {
      config: { ...this.config, architectures: [this.architecture] },
      generationConfig: this.generationConfig,
      companions: this.companions,
      tensors: this.entries.map((entry) => ({ name: storedName(entry.name, this.family), shape: entry.shape, read: () => rows(entry) })),
      dtype: options.dtype ?? this.savedDtype,
      maxShardSize: options.maxShardSize,
    });
  }

  /** The adapters alone are written into `dir` in PEFT's format, with the model's own head where that is new. */
  saveAdapter(dir: string): void {
    if (!this.#lora) throw new Error("internal: a model without adapters was asked to save them");
    const saved = this.entries.filter((entry) => this.newBlocks.includes(this.blockOf(entry)));
    writePeftAdapter(dir, this.#lora, {
      baseModel: this.path, taskType: this.taskType,
      saved: new Map(saved.map((entry) => [entry.name, this.#storedForm(entry, this.blockOf(entry).flat)])),
    });
  }
}

/**
 * Compares a checkpoint with what the model expects, before anything is copied.
 *
 * @throws {CheckpointError} naming the first missing, unexpected or misshapen tensor
 */
export function checkTensors(source: CheckpointSource, entries: readonly CheckpointEntry[], mayIgnore: (name: string) => boolean): void {
  const found = new Set(source.names());
  for (const { name, shape } of entries) {
    if (!found.delete(name)) throw new CheckpointError(`${source.path}: "${name}" is missing; the model that config.json describes has it`);
    const actual = source.shape(name);
    if (actual.length !== shape.length || actual.some((size, i) => size !== shape[i])) {
      throw new CheckpointError(`${source.path}: "${name}" is [${actual.join(", ")}], the model expects [${shape.join(", ")}]`);
    }
  }
  const unexpected = [...found].filter((name) => !mayIgnore(name));
  if (unexpected.length > 0) {
    const more = unexpected.length > 1 ? ` (and ${unexpected.length - 1} more)` : "";
    throw new CheckpointError(`${source.path}: "${unexpected[0]}"${more} is no tensor of the model that config.json describes`);
  }
}

/** @throws {RangeError} when a row is longer than the context, or a token is not in the vocabulary */
export function checkLengths(model: PretrainedModel, rows: readonly (readonly number[])[]): void {
  const { maxPositions, vocabSize } = model.spec;
  for (const [i, row] of rows.entries()) {
    if (row.length > maxPositions) throw new RangeError(`row ${i} has ${row.length} tokens, the model's context is ${maxPositions}`);
    const bad = row.find((token) => !(token >= 0 && token < vocabSize));
    if (bad !== undefined) {
      throw new RangeError(
        `row ${i} has token ${bad}, the vocabulary ends at ${vocabSize - 1}: was another model's tokenizer used?`,
      );
    }
  }
}

/** The part of a leaf that a checkpoint's tensor fills. */
function rowsOf(entry: CheckpointEntry, leaf: Tensor): Tensor {
  return leaf.slice(0, entry.row, entry.row + (leafShape(entry)[0] ?? 1));
}

/** The decoder's block that an entry names. */
export function decoderBlock(model: PretrainedModel, block: CheckpointEntry["block"]): ParameterBlock {
  const { embedding, layers, final } = model.decoder;
  const found = typeof block === "number" ? layers[block] : block === "embedding" ? embedding : block === "final" ? final : undefined;
  if (!found) throw new Error(`internal: the decoder has no block "${block}"`);
  return found;
}

/** The parts of the model that a checkpoint describes. */
export function partsOf(source: CheckpointSource, options: LoadOptions): ModelParts {
  const family = familyOf(source.config, source.path);
  const dtype = resolveDtype(options);
  return {
    family, spec: specOf(family, source.config), config: source.config, generationConfig: source.generationConfig,
    companions: source.companions, dtype, savedDtype: source.dtype ?? dtype, path: source.path,
  };
}

/**
 * What a configuration describes.
 *
 * @throws {ConfigError} for a value out of range, and for an option that the family does not know
 */
export function specOf(family: Family, config: ModelConfig): DecoderSpec {
  const read = new ConfigReader(config), spec = family.spec(read);
  read.refuseUnknown(family.className);
  return spec;
}
