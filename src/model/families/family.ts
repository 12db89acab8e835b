import type { Activation } from "../../nn/functional.ts";
import type { DecoderSpec } from "../spec.ts";
import type { ConfigReader } from "./config-reader.ts";

/** `config.json` as parsed. */
export type ModelConfig = Readonly<Record<string, unknown>>;

/** What a language model's own head is called. */
export const HEAD_MODULE = "lm_head";
/** What the checkpoints of every family call a reward model's head. */
export const SCORE_NAME = "score.weight";

/** One tensor of a checkpoint: which rows of which leaf of which block it fills, and how. */
export interface CheckpointEntry {
  name: string;
  /** In the checkpoint. */
  shape: readonly number[];
  /** "embedding", "final", "head", "score", or the index of a layer. */
  block: "embedding" | "final" | "head" | "score" | number;
  leaf: string;
  /** First row of the leaf; a whole leaf starts at 0. */
  row: number;
  /** The checkpoint has [in, out] (GPT-2), the leaf [out, in]. */
  transposed?: boolean;
  /** Row i of the leaf's part is row `order[i]` of the checkpoint's tensor; left out: they lie alike. */
  order?: readonly number[];
}

/** A model family: how its `config.json` becomes a decoder, and what its checkpoints call the decoder's parts. */
export interface Family {
  modelType: string;
  /** Prefix of its class names, e.g. "Llama" of LlamaForCausalLM and LlamaForSequenceClassification. */
  className: string;
  /** Name of its language model's class where it is not `<className>ForCausalLM`. */
  causalClass?: string;
  /** What a CausalLM checkpoint puts before the names of the decoder's tensors; a bare decoder's checkpoint goes without. */
  prefix: string;
  /** What files call the language model's own head, where it is not "lm_head". */
  storedHead?: string;
  /** Reads every key that means something for this family. */
  spec(read: ConfigReader): DecoderSpec;
  /** Every tensor of the decoder (without head), by the names of a CausalLM checkpoint. */
  entries(spec: DecoderSpec): CheckpointEntry[];
  /** Tensors that old checkpoints carry and that are computed, not learned. */
  isComputed?(name: string): boolean;
}

/** What `config.json` calls the activations. */
export const activations: Readonly<Record<string, Activation>> = {
  silu: "silu", swish: "silu", relu: "relu", gelu: "gelu", gelu_python: "gelu",
  gelu_new: "gelu-tanh", gelu_fast: "gelu-tanh", gelu_pytorch_tanh: "gelu-tanh",
};
