import { configNumber, type GgufArchitecture } from "../architecture.ts";
import { groupedHeads } from "../value-change.ts";

const HEADS = "n_head|num_attention_heads", HIDDEN = "hidden_size|n_embed";

/** BLOOM: positions by ALiBi, a norm behind the embedding. */
export const bloom: GgufArchitecture = {
  name: "bloom", modelTypes: ["bloom"], className: "BloomForCausalLM",
  counts: { embedding_length: HIDDEN, block_count: "n_layer|num_hidden_layers", "attention.head_count": HEADS },
  fractions: { "attention.layer_norm_epsilon": "layer_norm_epsilon" },
  fixed: { apply_residual_connection_post_layernorm: [false] },
  tensors: {
    "token_embd.weight": "transformer.word_embeddings.weight",
    "token_embd_norm.weight": "transformer.word_embeddings_layernorm.weight",
    "token_embd_norm.bias": "transformer.word_embeddings_layernorm.bias",
    "output_norm.weight": "transformer.ln_f.weight", "output_norm.bias": "transformer.ln_f.bias", "output.weight": "lm_head.weight",
  },
  layerPrefix: "transformer.h",
  layerTensors: {
    attn_norm: "input_layernorm", attn_qkv: "self_attention.query_key_value", attn_output: "self_attention.dense",
    ffn_norm: "post_attention_layernorm", ffn_up: "mlp.dense_h_to_4h", ffn_down: "mlp.dense_4h_to_h",
  },
  config: ({ metadata }) => {
    metadata.expect("feed_forward_length", 4 * metadata.number("embedding_length"), "BLOOM's MLP is four times as wide as its layers");
    return { seq_length: metadata.number("context_length") };
  },
  metadata: (config) => ({
    context_length: configNumber(config, "seq_length", 2048), feed_forward_length: 4 * configNumber(config, HIDDEN),
    "attention.head_count_kv": configNumber(config, HEADS),
  }),
  change: (name, config) => {
    const heads = configNumber(config, HEADS);
    return name.includes(".query_key_value.") ? groupedHeads(heads, heads) : undefined;
  },
};
