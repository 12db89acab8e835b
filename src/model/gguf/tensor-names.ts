/** Llama's tensors outside the layers: GGUF name to Hugging Face name. */
const TOP: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};

/** Llama's tensors of a layer, without the ending `.weight` or `.bias`. */
const LAYER: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};

/**
 * Hugging Face's name of a Llama tensor; undefined for an unknown one.
 * Example: `blk.0.attn_q.weight` is `model.layers.0.self_attn.q_proj.weight`.
 */
export function llamaTensorName(ggufName: string): string | undefined {
  if (Object.hasOwn(TOP, ggufName)) return TOP[ggufName];
  const [, layer, part = "", ending] = /^blk\.(\d+)\.(\w+)\.(weight|bias)$/.exec(ggufName) ?? [];
  const name = Object.hasOwn(LAYER, part) ? LAYER[part] : undefined;
  return name === undefined ? undefined : `model.layers.${layer}.${name}.${ending}`;
}
