import { CheckpointError, ConfigError } from "../errors.ts";
import { linear } from "../nn/functional.ts";
import { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { Generator, indices, randn } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { openCheckpoint } from "./checkpoint-source.ts";
import { type CheckpointEntry, type ModelConfig, SCORE_NAME } from "./families/family.ts";
import { isHead, withFamilyNames } from "./family-names.ts";
import { mergedCheckpoint } from "./merged-checkpoint.ts";
import { type AttentionMask, packRows, type TokenBatch, unpad } from "./packing.ts";
import { checkLengths, checkTensors, decoderBlock, type LoadOptions, type ModelParts, PretrainedModel, partsOf } from "./pretrained.ts";

/** How raw scores become rewards of a known scale: (score - mean) / std. */
export interface ScoreScale {
  mean: number;
  std: number;
}

/** A decoder with a score for every position: the reward model (last position) and the critic (every position). */
export class RewardModel extends PretrainedModel {
  /** "weight" [1, embedding size], without bias. */
  readonly score: ParameterBlock;
  /** Applied to everything this model returns; saved under `tschat` in `config.json`. */
  scale: ScoreScale;

  constructor(parts: ModelParts, scale: ScoreScale = { mean: 0, std: 1 }) {
    super(parts);
    this.score = new ParameterBlock("score", [{ name: "weight", shape: [1, parts.spec.embedding.size] }], parts.dtype);
    this.scale = scale;
  }

  /**
   * Loads a `<Family>ForSequenceClassification` folder with one label, as this class and transformers save it.
   *
   * @throws {CheckpointError} when it is another kind of model, or as for CausalLM.load
   */
  static async load(path: string, options: LoadOptions = {}): Promise<RewardModel> {
    const base = await openCheckpoint(path);
    const model = new RewardModel(partsOf(base, options), scaleOf(base.config, path));
    const source = mergedCheckpoint(withFamilyNames(base, model.family), options.adapter, model.entries);
    if (!source.names().includes(SCORE_NAME)) {
      throw new CheckpointError(
        `${path}: has no "${SCORE_NAME}": it is no reward model; train one with "tschat reward", or start one from a language model`,
      );
    }
    // An adapter with a score of its own may stand on a language model, as it was trained.
    const mayHaveHead = !base.names().includes(SCORE_NAME);
    checkTensors(source, model.entries, (name) => model.family.isComputed?.(name) === true || (mayHaveHead && isHead(name)));
    model.fill(source);
    return model;
  }

  /**
   * A new score head on the decoder of any model: drawn from N(0, 1 / (hidden + 1)) with a seed, which keeps first scores
   * near unit size (arXiv:2009.01325, and OpenAI's code), or zero, so that a critic starts by saying nothing.
   */
  static async withNewHead(path: string, options: LoadOptions & { head: { seed: number } | "zero" }): Promise<RewardModel> {
    const base = await openCheckpoint(path);
    const model = new RewardModel(partsOf(base, options));
    const decoderEntries = model.entries.filter((entry) => entry.name !== SCORE_NAME);
    const source = mergedCheckpoint(withFamilyNames(base, model.family), options.adapter, decoderEntries);
    const mayIgnore = (name: string) => model.family.isComputed?.(name) === true || isHead(name) || name === SCORE_NAME;
    checkTensors(source, decoderEntries, mayIgnore);
    model.fill(source, decoderEntries);
    const { head } = options, width = model.spec.embedding.size;
    if (head !== "zero") {
      const drawn = randn([1, width], new Generator(head.seed)).mul((width + 1) ** -0.5);
      noGrad(() => model.score.leaf("weight").copy_(drawn));
    }
    return model;
  }

  get architecture(): string { return `${this.family.className}ForSequenceClassification`; }
  protected get taskType() { return "SEQ_CLS" as const; }
  protected override get newBlocks(): readonly ParameterBlock[] { return [this.score]; }
  get blocks(): readonly ParameterBlock[] { return [...this.decoder.blocks, this.score]; }
  get entries(): readonly CheckpointEntry[] {
    const score: CheckpointEntry = { name: SCORE_NAME, shape: [1, this.spec.embedding.size], block: "score", leaf: "weight", row: 0 };
    return [...this.family.entries(this.spec), score];
  }
  protected blockOf({ block }: CheckpointEntry): ParameterBlock {
    return block === "score" ? this.score : decoderBlock(this, block);
  }

  /**
   * Scaled scores at every position of unpadded rows, packed, with gradient: [total] float32, or [n] of the positions `only`, counted
   * through all rows.
   */
  values(rows: readonly (readonly number[])[], only?: readonly number[]): Tensor {
    checkLengths(this, rows);
    const options = { ...this.forwardOptions, ...(only ? { only: indices(only) } : {}) };
    return this.#scoresOf(this.decoder.forward(packRows(rows), options));
  }

  /** Scaled score of each unpadded row, read at its last token: [batch] float32, with gradient. */
  scoreRows(rows: readonly (readonly number[])[]): Tensor {
    checkLengths(this, rows);
    let end = 0;
    return this.values(rows, rows.map((row) => {
      end += row.length;
      return end - 1;
    }));
  }

  /** Scaled score of each row of a padded batch, read at its last counted token: [batch] float32. */
  scores(tokens: TokenBatch, { attentionMask }: { attentionMask?: AttentionMask } = {}): Tensor {
    return this.scoreRows(unpad(tokens, attentionMask).rows);
  }

  /**
   * Sets what `<Family>ForSequenceClassification` needs.
   *
   * @throws {ConfigError} without a pad token that differs from the end token: transformers would score the wrong position
   */
  override async save(dir: string, options: Parameters<PretrainedModel["save"]>[1] & { padTokenId?: number } = {}): Promise<void> {
    const padTokenId = options.padTokenId ?? this.config.pad_token_id;
    const ends = [this.generationConfig.eos_token_id, this.config.eos_token_id].flat();
    if (typeof padTokenId !== "number" || ends.includes(padTokenId)) {
      throw new ConfigError(
        `${dir}: a reward model needs a pad token that is not its end token, found ${JSON.stringify(padTokenId) ?? "none"}; ` +
          "pass padTokenId (Tokenizer.padTokenId is one)",
      );
    }
    this.config = {
      ...this.config, num_labels: 1, id2label: { 0: "LABEL_0" }, label2id: { LABEL_0: 0 }, pad_token_id: padTokenId,
      tschat: { scoreScale: this.scale },
    };
    await super.save(dir, options);
  }

  /** hidden [n, embedding size] -> scaled scores [n] float32 */
  #scoresOf(hidden: Tensor): Tensor {
    const scores = linear(hidden.to("float32"), this.score.leaf("weight").to("float32")).squeeze(1);
    const { mean, std } = this.scale;
    return mean === 0 && std === 1 ? scores : scores.sub(mean).div(std);
  }
}

function scaleOf(config: ModelConfig, path: string): ScoreScale {
  const scale = (config.tschat as { scoreScale?: Partial<ScoreScale> } | undefined)?.scoreScale;
  if (scale === undefined) return { mean: 0, std: 1 };
  const { mean, std } = scale;
  if (typeof mean === "number" && Number.isFinite(mean) && typeof std === "number" && std > 0) return { mean, std };
  throw new CheckpointError(`${path}: config.json: "tschat.scoreScale" is ${JSON.stringify(scale)}, expected a mean and a std above 0`);
}
