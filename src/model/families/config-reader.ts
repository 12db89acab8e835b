import { ConfigError } from "../../errors.ts";
import type { ModelConfig } from "./family.ts";

/** Typed reading of `config.json`, with the key in every message; it knows afterwards which keys nobody has read. */
export class ConfigReader {
  readonly #config: ModelConfig;
  /** For messages: "" or e.g. "rope_parameters.". */
  readonly #path: string;
  readonly #read = new Set<string>();

  constructor(config: ModelConfig, path = "") {
    this.#config = config;
    this.#path = path;
  }

  #get(key: string): unknown {
    this.#read.add(key);
    const value = this.#config[key];
    return value === null ? undefined : value;
  }
  #refuse(key: string, expected: string, found: unknown): never {
    throw new ConfigError(`config.json: "${this.#path}${key}": expected ${expected}, found ${JSON.stringify(found) ?? "nothing"}`);
  }

  has(key: string): boolean { return this.#get(key) !== undefined; }
  /** Whether a key stands there and is null: an option that is off, not one left to its default. */
  hasNull(key: string): boolean { return this.#config[key] === null; }
  /** As it stands. */
  value(key: string): unknown { return this.#get(key); }
  /** Says that keys were taken note of: they change nothing for this model. */
  ignore(...keys: readonly string[]): void {
    for (const key of keys) this.#read.add(key);
  }

  /** A positive whole number. */
  count(key: string, fallback?: number): number {
    const value = this.#get(key) ?? fallback;
    return typeof value === "number" && Number.isInteger(value) && value > 0 ? value : this.#refuse(key, "a positive whole number", value);
  }
  number(key: string, fallback?: number): number {
    const value = this.#get(key) ?? fallback;
    return typeof value === "number" && Number.isFinite(value) ? value : this.#refuse(key, "a number", value);
  }
  boolean(key: string, fallback: boolean): boolean {
    const value = this.#get(key) ?? fallback;
    return typeof value === "boolean" ? value : this.#refuse(key, "true or false", value);
  }
  /** One of the names on the left of `choices`, mapped to the value on its right. */
  choice<Value>(key: string, choices: Readonly<Record<string, Value>>, fallback: string): Value {
    const name = this.#get(key) ?? fallback;
    if (typeof name === "string" && Object.hasOwn(choices, name)) return choices[name] as Value;
    return this.#refuse(key, `one of ${Object.keys(choices).join(", ")}`, name);
  }
  /** A list with one of `choices` for each layer, or undefined. */
  perLayer<const Name extends string>(key: string, choices: readonly Name[], numLayers: number): readonly Name[] | undefined {
    const value = this.#get(key);
    if (value === undefined) return undefined;
    const isRight = Array.isArray(value) && value.length === numLayers && value.every((name) => choices.includes(name));
    return isRight ? value as readonly Name[] : this.#refuse(key, `${numLayers} times one of ${choices.join(", ")}`, value);
  }
  /** A list of so many numbers. */
  numbers(key: string, length: number): readonly number[] {
    const value = this.#get(key);
    const isRight = Array.isArray(value) && value.length === length && value.every(Number.isFinite);
    return isRight ? value as readonly number[] : this.#refuse(key, `${length} numbers`, value);
  }
  /** A nested record, or undefined. */
  record(key: string): ModelConfig | undefined {
    const value = this.#get(key);
    if (value === undefined || (typeof value === "object" && !Array.isArray(value))) return value as ModelConfig | undefined;
    return this.#refuse(key, "an object", value);
  }
  /** Reading of a nested record, or undefined. */
  nested(key: string): ConfigReader | undefined {
    const record = this.record(key);
    return record && new ConfigReader(record, `${this.#path}${key}.`);
  }

  /** @throws {ConfigError} when an option is on that tschat does not compute */
  mustBeOff(...keys: readonly string[]): void {
    for (const key of keys) {
      const value = this.#get(key);
      if (!isOff(value)) this.#refuse(key, "it to be off, since tschat does not compute it", value);
    }
  }

  /**
   * @throws {ConfigError} naming a key that nobody has read and that is on: it may change what the model computes, and guessing
   *   that it does not would give a model that is wrong without a sign
   */
  refuseUnknown(family: string): void {
    const unknown = Object.keys(this.#config).find((key) =>
      !this.#read.has(key) && !key.startsWith("_") && !meaningless.has(key) && !isOff(this.#config[key]));
    if (unknown === undefined) return;
    throw new ConfigError(
      `config.json: "${this.#path}${unknown}": ${JSON.stringify(this.#config[unknown])?.slice(0, 80)} is no option that tschat knows ` +
        `for ${family}; if it changes nothing about what the model computes, remove the key`,
    );
  }
}

function isOff(value: unknown): boolean {
  if (value === undefined || value === null || value === false || value === 0 || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** What `config.json` says that changes neither the forward nor the gradient: what transformers writes into every file, and training's. */
const meaningless = new Set([
  // who and what
  "model_type", "architectures", "auto_map", "name_or_path", "transformers_version", "torch_dtype", "dtype", "transformers.js_config",
  "tokenizer_class", "language", "finetuning_task", "task_specific_params", "problem_type", "id2label", "label2id", "num_labels", "tschat",
  "is_llama_config", "custom_pipelines", "predict_special_tokens", "n_special", "model_max_length", "max_sequence_length",
  "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout", "gradient_checkpointing",
  // token ids and old generation settings
  "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "unk_token_id", "prefix", "max_length",
  "min_length", "max_new_tokens", "do_sample", "temperature", "top_k", "top_p", "typical_p", "num_beams", "num_beam_groups",
  "num_return_sequences", "repetition_penalty", "length_penalty", "diversity_penalty", "encoder_no_repeat_ngram_size",
  "no_repeat_ngram_size", "early_stopping", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "cache_implementation",
  // starts, dropout (training goes without), speed
  "initializer_range", "init_std", "initializer_factor", "use_cache", "return_dict", "output_hidden_states", "output_attentions",
  "chunk_size_feed_forward", "pretraining_tp", "attention_dropout", "attention_probs_dropout_prob", "hidden_dropout",
  "hidden_dropout_prob", "classifier_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop", "resid_dropout", "embed_dropout", "dropout",
  "activation_dropout", "layerdrop", "attn_implementation", "slow_but_exact", "reorder_and_upcast_attn", "tie_encoder_decoder",
  "output_router_logits", "unsloth_version", "unsloth_fixed", "use_flash_attn", "masked_softmax_fusion", "bias_dropout_fusion",
  "skip_bias_add", "skip_bias_add_qkv", "attention_softmax_in_fp32", "use_bfloat16", "torchscript", "seq_length", "offset_alibi",
]);
