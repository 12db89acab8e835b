import { CheckpointError } from "../errors.ts";
import { indexCopy, softcap } from "../nn/functional.ts";
import { type LayerProduct, layerProduct } from "../nn/layer-product.ts";
import { ParameterBlock } from "../nn/parameter-block.ts";
import { noGrad } from "../tensor/autograd.ts";
import { indices, zeros } from "../tensor/create.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { openCheckpoint } from "./checkpoint-source.ts";
import type { ForwardOptions } from "./decoder.ts";
import { type CheckpointEntry, HEAD_MODULE, SCORE_NAME } from "./families/family.ts";
import { withFamilyNames } from "./family-names.ts";
import { mergedCheckpoint } from "./merged-checkpoint.ts";
import { type AttentionMask, type PackedRows, packRows, type TokenBatch, unpad } from "./packing.ts";
import { checkLengths, checkTensors, decoderBlock, type LoadOptions, type ModelParts, PretrainedModel, partsOf } from "./pretrained.ts";
import { type TokenLogprobs, tokenLogprobs } from "./token-logprobs.ts";

/** Which log-probabilities to compute. */
export interface ScoreOptions {
  /** `counts[i][t]`: whether token t of row i is scored; the first token of a row never is. Left out: all others. */
  counts?: readonly (readonly boolean[])[];
  /** Logits are divided by it; default 1. */
  temperature?: number;
  /** Whether to give entropies too, which costs two more passes over the logits; default false. */
  entropies?: boolean;
}

/** A decoder with a language-model head. */
export class CausalLM extends PretrainedModel {
  /** The head's own matrix, or undefined where it multiplies by the token table. */
  readonly head: ParameterBlock | undefined;

  constructor(parts: ModelParts) {
    super(parts);
    const { vocabSize, embedding, tiesEmbeddings, headBias } = parts.spec;
    const bias = headBias ? [{ name: "weightBias", shape: [vocabSize] }] : [];
    const leaves = [{ name: "weight", shape: [vocabSize, embedding.size] }, ...bias];
    this.head = tiesEmbeddings ? undefined : new ParameterBlock("head", leaves, parts.dtype, parts.flats?.get("head"));
  }

  /**
   * Loads a Hugging Face folder (safetensors) or a `.gguf` file.
   *
   * @throws {CheckpointError} for a missing, damaged or unknown checkpoint, naming the file and the tensor
   */
  static async load(path: string, options: LoadOptions = {}): Promise<CausalLM> {
    const base = await openCheckpoint(path);
    if (base.names().includes(SCORE_NAME)) {
      throw new CheckpointError(`${path}: has a "${SCORE_NAME}": it is a reward model, where a language model is expected`);
    }
    const model = new CausalLM(partsOf(base, options)), { family } = model;
    const source = mergedCheckpoint(withFamilyNames(base, family), options.adapter, model.entries);
    const head = `${HEAD_MODULE}.weight`;
    checkTensors(source, model.entries, (name) => family.isComputed?.(name) === true || (name === head && !model.head));
    if (!model.head && source.names().includes(head)) {
      checkTied({ path, head }, source.read(head), source.read(model.entries[0]?.name ?? ""));
    }
    model.fill(source);
    return model;
  }

  get architecture(): string { return this.family.causalClass ?? `${this.family.className}ForCausalLM`; }
  protected get taskType() { return "CAUSAL_LM" as const; }
  get blocks(): readonly ParameterBlock[] { return [...this.decoder.blocks, ...(this.head ? [this.head] : [])]; }
  get entries(): readonly CheckpointEntry[] {
    const { vocabSize, embedding, headBias } = this.spec;
    const list: CheckpointEntry[] = [...this.family.entries(this.spec)];
    if (!this.head) return list;
    list.push({ name: `${HEAD_MODULE}.weight`, shape: [vocabSize, embedding.size], block: "head", leaf: "weight", row: 0 });
    if (headBias) list.push({ name: `${HEAD_MODULE}.bias`, shape: [vocabSize], block: "head", leaf: "weightBias", row: 0 });
    return list;
  }

  protected blockOf({ block }: CheckpointEntry): ParameterBlock {
    if (block === "head" && this.head) return this.head;
    return decoderBlock(this, block);
  }

  /** Block and name of the matrix that hidden states are multiplied with. */
  get headMatrix(): readonly [ParameterBlock, string] { return this.head ? [this.head, "weight"] : [this.decoder.embedding, "tokens"]; }
  /** [vocab, embedding size] */
  get headWeight(): Tensor {
    const [block, name] = this.headMatrix;
    return block.leaf(name);
  }

  /** Logits of hidden states: [n, embedding size] -> [n, vocab]. */
  logits(hidden: Tensor, product: LayerProduct = layerProduct): Tensor {
    const logits = product(hidden, ...this.headMatrix), { logitSoftcap } = this.spec;
    return logitSoftcap === undefined ? logits : softcap(logits, logitSoftcap);
  }

  /** Hidden states of packed sequences, [total, embedding size], or of the tokens in `options.only`. */
  hidden(rows: PackedRows, options: ForwardOptions = {}): Tensor {
    return this.decoder.forward(rows, { ...this.forwardOptions, ...options });
  }

  /** The frozen model below the adapters, which looks into the same weights: the reference of PPO. */
  withoutLora(): CausalLM {
    if (this.lora?.options.onlyLora !== true) throw new Error("internal: only under adapters do the weights stay as they are");
    const flats = new Map(this.blocks.map(({ name, flat }) => [name, flat]));
    const { family, spec, config, generationConfig, companions, dtype, savedDtype, path } = this;
    return new CausalLM({ family, spec, config, generationConfig, companions, dtype, savedDtype, path, flats }).freeze();
  }

  /**
   * Logits of a padded batch, [batch, seq, vocab] in the model's dtype, zero where the mask is.
   *
   * @throws {RangeError} when a row is longer than the model's context or has no counted token
   */
  forward(tokens: TokenBatch, { attentionMask }: { attentionMask?: AttentionMask } = {}): Tensor {
    const batch = unpad(tokens, attentionMask);
    this.checkLengths(batch.rows);
    const logits = this.logits(this.hidden(packRows(batch.rows)));
    const { vocabSize } = this.spec;
    const grid = zeros([batch.batchSize * batch.width, vocabSize], logits.dtype);
    return indexCopy(grid, indices(batch.places), logits).reshape([batch.batchSize, batch.width, vocabSize]);
  }

  /**
   * Log-probability of each token after the tokens before it: entry [i, t] is that of token t + 1. [batch, seq - 1]
   * float32, nats, with gradient; 0 where token t + 1 or all before it are masked.
   */
  logprobs(
    tokens: TokenBatch, { attentionMask, ...options }: { attentionMask?: AttentionMask } & Pick<ScoreOptions, "temperature"> = {},
  ): Tensor {
    const batch = unpad(tokens, attentionMask);
    const { logprobs } = this.tokenLogprobs(batch.rows, options);
    const places: number[] = [];
    let start = 0;
    for (const row of batch.rows) {
      // Token t of a row stands in column c of the grid; its log-probability goes to column c - 1.
      for (let t = 1; t < row.length; t++) {
        const place = batch.places[start + t] ?? 0;
        places.push(Math.floor(place / batch.width) * (batch.width - 1) + (place % batch.width) - 1);
      }
      start += row.length;
    }
    const grid = zeros([batch.batchSize * (batch.width - 1)]);
    return indexCopy(grid, indices(places), logprobs).reshape([batch.batchSize, batch.width - 1]);
  }

  /** Log-probabilities and entropies of the counted tokens of unpadded rows, in order: [counted tokens] float32. */
  tokenLogprobs(rows: readonly (readonly number[])[], { counts, temperature, entropies }: ScoreOptions = {}): TokenLogprobs {
    this.checkLengths(rows);
    const packed = packRows(rows);
    const predictors: number[] = [], targets: number[] = [];
    for (const [i, row] of rows.entries()) {
      const start = packed.offsets[i] ?? 0;
      for (let t = 1; t < row.length; t++) {
        if (counts && !counts[i]?.[t]) continue;
        predictors.push(start + t - 1);
        targets.push(row[t] ?? 0);
      }
    }
    if (targets.length === 0) throw new RangeError("no token is scored: every row has one token only, or nothing counts");
    const hidden = this.hidden(packed, { only: indices(predictors) });
    const { headWeight: weight, spec: { logitSoftcap } } = this, bias = this.head?.find("weightBias");
    return tokenLogprobs({ hidden, weight, bias, logitSoftcap, targets: indices(targets), temperature, entropies });
  }

  /**
   * Mean negative log-likelihood of each token after those before it, over all counted tokens: [] float32, nats per token, with
   * gradient. Makes the parameters train.
   */
  loss(tokens: TokenBatch, { attentionMask }: { attentionMask?: AttentionMask } = {}): Tensor {
    this.enableGradients();
    return this.tokenLogprobs(unpad(tokens, attentionMask).rows).logprobs.mean().neg();
  }

  /** @throws {RangeError} when a row is longer than the model's context */
  checkLengths(rows: readonly (readonly number[])[]): void {
    checkLengths(this, rows);
  }
}

/** Some checkpoints store a tied head once more; it must be the same matrix, or config.json is wrong about it. */
function checkTied({ path, head }: { path: string; head: string }, matrix: Tensor, table: Tensor): void {
  const same = matrix.shape.join() === table.shape.join() && noGrad(() => matrix.equal(table).all().item()) === 1;
  if (same) return;
  throw new CheckpointError(
    `${path}: "${head}" differs from the token table although config.json says "tie_word_embeddings": true; ` +
      "set it to false if the head is its own matrix",
  );
}

