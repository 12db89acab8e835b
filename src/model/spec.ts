import type { AttentionShape } from "../nn/attention.ts";
import type { Activation } from "../nn/functional.ts";
import type { NormKind } from "../nn/layer-product.ts";

/** The norms of a decoder; see `Norm`. */
export interface NormSpec {
  kind: NormKind;
  eps: number;
  /** Whether norms have weights (and, layer norms, biases). */
  affine: boolean;
  /**
   * "before": the input of attention and MLP is normalised; "after": the sum with the residual is; "around": the input is, and the
   * output once more before it is added (Gemma 2, arXiv:2408.00118).
   */
  placement: "before" | "after" | "around";
}

/** A decoder as data: `Decoder` interprets it for training and for generation, so that the two cannot disagree. */
export interface DecoderSpec {
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  /** Longest sequence, prompt and answer together, in tokens. */
  maxPositions: number;
  norm: NormSpec;
  /**
   * "sequential": the MLP reads what attention has made; "parallel": both read the layer's input (GPT-J), through norms of their own or, in
   * "parallel-one-norm", through the same.
   */
  residual: "sequential" | "parallel" | "parallel-one-norm";
  attention: AttentionShape & {
    /** Bias of the query, key and value projections, and of the output projection. */
    inputBias: boolean;
    outputBias: boolean;
    /** Norm of every query and key head before it is rotated (arXiv:2010.04245), its weights shared by all heads or not. */
    headNorm?: { kind: NormKind; eps: number; perHead: boolean };
  };
  /** gated: down(act(gate(x)) * up(x)) (arXiv:2002.05202); plain: down(act(up(x))). */
  mlp: { kind: "gated" | "plain"; size: number; activation: Activation; bias: boolean };
  embedding: {
    /** Width of the token table; where it differs from `hiddenSize`, a matrix projects in and another one out. */
    size: number;
    /** A table of `maxPositions` + `offset` rows is added: position p reads row p + offset (OPT's offset is 2). */
    positions?: { offset: number };
    /** Embeddings are multiplied by it, rounded to the model's dtype (Gemma: sqrt(hiddenSize)). */
    scale?: number;
    /** A norm of the embeddings (BLOOM). */
    norm?: boolean;
  };
  /** A norm after the last layer. */
  finalNorm: boolean;
  /** The head multiplies by the token table instead of a matrix of its own. */
  tiesEmbeddings: boolean;
  /** The head adds a bias (GPT-J). */
  headBias?: boolean;
  /** Logits become cap * tanh(logits / cap). */
  logitSoftcap?: number;
}
