import { configNumber, type GgufArchitecture } from "../architecture.ts";

/** GPT-2, whose checkpoints have their matrices transposed. */
export const gpt2: GgufArchitecture = {
  name: "gpt2", modelTypes: ["gpt2"], className: "GPT2LMHeadModel",
  counts: { embedding_length: "n_embd", block_count: "n_layer", "attention.head_count": "n_head", context_length: "n_positions|n_ctx" },
  optionalCounts: { feed_forward_length: "n_inner" },
  fractions: { "attention.layer_norm_epsilon": "layer_norm_epsilon" },
  fixed: {
    activation_function: ["gelu_new", "gelu_fast", "gelu_pytorch_tanh"], scale_attn_weights: [true],
    scale_attn_by_inverse_layer_idx: [false], reorder_and_upcast_attn: [false], add_cross_attention: [false],
  },
  tensors: {
    "token_embd.weight": "transformer.wte.weight", "position_embd.weight": "transformer.wpe.weight",
    "output_norm.weight": "transformer.ln_f.weight", "output_norm.bias": "transformer.ln_f.bias", "output.weight": "lm_head.weight",
  },
  layerPrefix: "transformer.h",
  layerTensors: {
    attn_norm: "ln_1", attn_qkv: "attn.c_attn", attn_output: "attn.c_proj", ffn_norm: "ln_2", ffn_up: "mlp.c_fc", ffn_down: "mlp.c_proj",
  },
  config: () => ({}),
  metadata: (config) => ({ feed_forward_length: configNumber(config, "n_inner", 4 * configNumber(config, "n_embd")) }),
  change: (name) => (/\.(c_attn|c_proj|c_fc)\.weight$/.test(name) ? { kind: "transpose" } : undefined),
};
