import type { Activation } from "../nn/functional.ts";
import type { RotarySpec } from "../nn/rotary.ts";

/** Layer norm (weight and bias) or RMS norm (weight); `affine` false leaves both out. */
export interface NormSpec {
  kind: "layer" | "rms";
  eps: number;
  affine: boolean;
  /** "before": normalise the input of attention and MLP; "after": normalise the sum with the residual. */
  placement: "before" | "after";
}

/** How a token's place reaches the model. */
export type PositionSpec =
  | ({ kind: "rotary" } & RotarySpec)
  /** A table of `maxPositions` + `offset` rows; position p reads row p + offset (OPT's offset is 2). */
  | { kind: "learned"; offset: number };

/** A decoder as data: `Decoder` interprets it for training and for generation, so that the two cannot disagree. */
export interface DecoderSpec {
  vocabSize: number;
  hiddenSize: number;
  numLayers: number;
  /** Longest sequence, prompt and answer together, in tokens. */
  maxPositions: number;
  norm: NormSpec;
  attention: {
    numHeads: number;
    /** Keys and values are shared by `numHeads / numKvHeads` queries (arXiv:2305.13245). */
    numKvHeads: number;
    headDim: number;
    /** Bias of the query, key and value projections, and of the output projection. */
    inputBias: boolean;
    outputBias: boolean;
  };
  positions: PositionSpec;
  /** gated: down(act(gate(x)) * up(x)) (arXiv:2002.05202); plain: down(act(up(x))). */
  mlp: { kind: "gated" | "plain"; size: number; activation: Activation; bias: boolean };
  embedding: {
    /** Width of the token table; where it differs from `hiddenSize`, a matrix projects in and another one out. */
    size: number;
  };
  /** A norm after the last layer. */
  finalNorm: boolean;
  /** The head multiplies by the token table instead of a matrix of its own. */
  tiesEmbeddings: boolean;
}
