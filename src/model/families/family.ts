import { ConfigError } from "../../errors.ts";
import type { Activation } from "../../nn/functional.ts";
import type { DecoderSpec } from "../spec.ts";

/** `config.json` as parsed. */
export type ModelConfig = Readonly<Record<string, unknown>>;

/** What the checkpoints of every family call a language model's own head. */
export const HEAD_NAME = "lm_head.weight";
/** What the checkpoints of every family call a reward model's head. */
export const SCORE_NAME = "score.weight";

/** One tensor of a checkpoint: which rows of which leaf of which block it fills. */
export interface CheckpointEntry {
  name: string;
  shape: readonly number[];
  /** "embedding", "final", "head", "score", or the index of a layer. */
  block: "embedding" | "final" | "head" | "score" | number;
  leaf: string;
  /** First row of the leaf; a whole leaf starts at 0. */
  row: number;
}

/** A model family: how its `config.json` becomes a decoder, and what its checkpoints call the decoder's parts. */
export interface Family {
  modelType: string;
  /** Prefix of its class names, e.g. "Llama" of LlamaForCausalLM. */
  className: string;
  spec(config: ModelConfig): DecoderSpec;
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

/** Typed reading of `config.json`, with the key in every message. */
export class ConfigReader {
  readonly #config: ModelConfig;
  constructor(config: ModelConfig) { this.#config = config; }

  #get(key: string): unknown {
    const value = this.#config[key];
    return value === null ? undefined : value;
  }
  has(key: string): boolean { return this.#get(key) !== undefined; }

  /** A positive whole number. */
  count(key: string, fallback?: number): number {
    const value = this.#get(key) ?? fallback;
    if (typeof value === "number" && Number.isInteger(value) && value > 0) return value;
    throw new ConfigError(`config.json: "${key}": expected a positive whole number, found ${JSON.stringify(value) ?? "nothing"}`);
  }
  number(key: string, fallback?: number): number {
    const value = this.#get(key) ?? fallback;
    if (typeof value === "number" && Number.isFinite(value)) return value;
    throw new ConfigError(`config.json: "${key}": expected a number, found ${JSON.stringify(value) ?? "nothing"}`);
  }
  boolean(key: string, fallback: boolean): boolean {
    const value = this.#get(key) ?? fallback;
    if (typeof value === "boolean") return value;
    throw new ConfigError(`config.json: "${key}": expected true or false, found ${JSON.stringify(value)}`);
  }
  /** One of the names on the left of `choices`, mapped to the value on its right. */
  choice<Value>(key: string, choices: Readonly<Record<string, Value>>, fallback: string): Value {
    const name = this.#get(key) ?? fallback;
    if (typeof name === "string" && Object.hasOwn(choices, name)) return choices[name] as Value;
    throw new ConfigError(`config.json: "${key}": expected one of ${Object.keys(choices).join(", ")}, found ${JSON.stringify(name)}`);
  }
  /** A nested record, or undefined. */
  record(key: string): ModelConfig | undefined {
    const value = this.#get(key);
    if (value === undefined || (typeof value === "object" && !Array.isArray(value))) return value as ModelConfig | undefined;
    throw new ConfigError(`config.json: "${key}": expected an object, found ${JSON.stringify(value)}`);
  }
}
