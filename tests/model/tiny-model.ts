import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type PlainTensor, writeTensors } from "./safetensors-file.ts";

const TOKENIZER_FOLDER = fileURLToPath(new URL("../fixtures/tokenizer/chatml", import.meta.url));
/** Entries of that tokenizer, and its end-of-turn token. */
const TOKENIZER_SIZE = 400,
  TOKENIZER_END = 2;

/** What `writeTinyModel` writes. */
export interface TinyModelOptions {
  family: "llama" | "opt";
  /** Over the defaults below; `undefined` removes a key. */
  config?: Readonly<Record<string, unknown>>;
  /** Of the weights; default 0. */
  seed?: number;
  /** Of the weights on disk; default float32. */
  dtype?: "float32" | "bfloat16";
  /** Adds the tokenizer of `tests/fixtures/tokenizer/chatml` (400 entries, ChatML template); default false. */
  tokenizer?: boolean;
}

const ids = { bos_token_id: 1, eos_token_id: 2, pad_token_id: 0 };
const defaults = {
  llama: {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: 96,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    hidden_act: "silu",
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_type: "default", rope_theta: 10000 },
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: false,
    ...ids,
  },
  opt: {
    architectures: ["OPTForCausalLM"],
    model_type: "opt",
    vocab_size: 96,
    hidden_size: 32,
    word_embed_proj_dim: 32,
    ffn_dim: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    activation_function: "relu",
    max_position_embeddings: 64,
    do_layer_norm_before: true,
    enable_bias: true,
    layer_norm_elementwise_affine: true,
    tie_word_embeddings: true,
    ...ids,
  },
};

/**
 * Writes a Hugging Face folder with a random model of two layers: every parameter is away from its usual first value,
 * and the logits are far enough apart for greedy decoding to be clear. Returns `dir`.
 */
export function writeTinyModel(
  dir: string,
  { family, config: changes = {}, seed = 0, dtype = "float32", tokenizer = false }: TinyModelOptions,
): string {
  const tokens = tokenizer ? { vocab_size: TOKENIZER_SIZE, eos_token_id: TOKENIZER_END } : {};
  const config: Config = { ...defaults[family], ...tokens, ...changes, dtype };
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, "config.json"), JSON.stringify(config, null, 2));
  writeFileSync(
    join(dir, "generation_config.json"),
    JSON.stringify({ bos_token_id: config.bos_token_id, eos_token_id: config.eos_token_id }, null, 2),
  );
  const normal = normalNumbers(seed);
  const weights = new Map<string, PlainTensor>();
  for (const [name, shape] of family === "llama" ? llamaTensors(config) : optTensors(config)) {
    const size = shape.reduce((product, n) => product * n, 1);
    const [mean, deviation] = shape.length > 1 ? [0, 0.25] : name.endsWith("bias") ? [0, 0.1] : [1, 0.1];
    weights.set(name, { shape, data: Array.from({ length: size }, () => mean + deviation * normal()) });
  }
  writeTensors(join(dir, "model.safetensors"), weights, dtype === "float32" ? "F32" : "BF16");
  if (tokenizer)
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) copyFileSync(join(TOKENIZER_FOLDER, file), join(dir, file));
  return dir;
}

type Config = Readonly<Record<string, unknown>>;
type NamedShape = [name: string, shape: number[]];

/** The tensors of transformers' LlamaForCausalLM. */
function llamaTensors(config: Config): NamedShape[] {
  const hidden = config.hidden_size as number,
    heads = config.num_attention_heads as number,
    mlp = config.intermediate_size as number;
  const headDim = (config.head_dim as number | undefined) ?? hidden / heads;
  const queries = heads * headDim,
    keys = ((config.num_key_value_heads as number | undefined) ?? heads) * headDim;
  const list: NamedShape[] = [["model.embed_tokens.weight", [config.vocab_size as number, hidden]]];
  for (let layer = 0; layer < (config.num_hidden_layers as number); layer++) {
    const matrix = (name: string, out: number, width: number, bias: unknown) =>
      list.push(...linear(`model.layers.${layer}.${name}`, out, width, bias));
    for (const [name, out] of [
      ["q_proj", queries],
      ["k_proj", keys],
      ["v_proj", keys],
    ] as const)
      matrix(`self_attn.${name}`, out, hidden, config.attention_bias);
    matrix("self_attn.o_proj", hidden, queries, config.attention_bias);
    for (const name of ["gate_proj", "up_proj"]) matrix(`mlp.${name}`, mlp, hidden, config.mlp_bias);
    matrix("mlp.down_proj", hidden, mlp, config.mlp_bias);
    for (const name of ["input_layernorm", "post_attention_layernorm"]) list.push([`model.layers.${layer}.${name}.weight`, [hidden]]);
  }
  list.push(["model.norm.weight", [hidden]]);
  if (config.tie_word_embeddings !== true) list.push(["lm_head.weight", [config.vocab_size as number, hidden]]);
  return list;
}

/** The tensors of transformers' OPTForCausalLM. */
function optTensors(config: Config): NamedShape[] {
  const hidden = config.hidden_size as number,
    mlp = config.ffn_dim as number,
    width = config.word_embed_proj_dim as number;
  const bias = config.enable_bias;
  const norm = (name: string): NamedShape[] =>
    config.layer_norm_elementwise_affine
      ? [
          [`${name}.weight`, [hidden]],
          [`${name}.bias`, [hidden]],
        ]
      : [];
  const list: NamedShape[] = [
    ["embed_tokens.weight", [config.vocab_size as number, width]],
    ["embed_positions.weight", [(config.max_position_embeddings as number) + 2, hidden]],
  ];
  if (width !== hidden) list.push(["project_in.weight", [hidden, width]], ["project_out.weight", [width, hidden]]);
  if (config.do_layer_norm_before && !config._remove_final_layer_norm) list.push(...norm("final_layer_norm"));
  for (let layer = 0; layer < (config.num_hidden_layers as number); layer++) {
    for (const name of ["q_proj", "k_proj", "v_proj", "out_proj"])
      list.push(...linear(`layers.${layer}.self_attn.${name}`, hidden, hidden, bias));
    list.push(...linear(`layers.${layer}.fc1`, mlp, hidden, bias), ...linear(`layers.${layer}.fc2`, hidden, mlp, bias));
    list.push(...norm(`layers.${layer}.self_attn_layer_norm`), ...norm(`layers.${layer}.final_layer_norm`));
  }
  const named: NamedShape[] = list.map(([name, shape]) => [`model.decoder.${name}`, shape]);
  if (config.tie_word_embeddings !== true) named.push(["lm_head.weight", [config.vocab_size as number, width]]);
  return named;
}

function linear(name: string, out: number, width: number, bias: unknown): NamedShape[] {
  const weight: NamedShape = [`${name}.weight`, [out, width]];
  return bias ? [weight, [`${name}.bias`, [out]]] : [weight];
}

/** Standard normal numbers (Box and Muller 1958) from the 32-bit generator mulberry32. */
export function normalNumbers(seed: number): () => number {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let word = Math.imul(state ^ (state >>> 15), 1 | state);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return (((word ^ (word >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
