"""Makes tests/fixtures/goldens/<name>: tiny random models of every family, and what transformers computes with them.

usage: python family_goldens.py OUT [name...]     (transformers 5.x, torch; float32, eager attention)
"""

import inspect
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, CONFIG_MAPPING

BASE = {"vocab_size": 96, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False}
LLAMA = {**BASE, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
GPT = {**BASE, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64}
NEOX = {**BASE, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
FALCON = {**BASE, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}
TIED = {"tie_word_embeddings": True}

MODELS = {
    "tiny-mistral-window": ("mistral", {**LLAMA, "head_dim": 8, "sliding_window": 5}),
    "tiny-qwen2": ("qwen2", {**LLAMA, **TIED}),
    "tiny-qwen2-window": ("qwen2", {**LLAMA, "num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "tiny-qwen3": ("qwen3", {**LLAMA, "head_dim": 10}),
    "tiny-gemma": ("gemma", {**LLAMA, **TIED, "head_dim": 8}),
    "tiny-gemma2": ("gemma2", {**LLAMA, **TIED, "head_dim": 8, "sliding_window": 5, "query_pre_attn_scalar": 12, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0}),
    "tiny-gemma3": ("gemma3_text", {**LLAMA, **TIED, "head_dim": 8, "num_hidden_layers": 3, "sliding_window": 5, "query_pre_attn_scalar": 12,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}),
    "tiny-phi3": ("phi3", {**LLAMA, "sliding_window": 6}),
    "tiny-phi3-longrope": ("phi3", {**LLAMA, "hidden_size": 32, "max_position_embeddings": 256, "original_max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.5, "short_factor": [1.0, 1.1], "long_factor": [1.5, 4.0]}}),
    "tiny-stablelm": ("stablelm", {**LLAMA, "hidden_size": 32, "use_qkv_bias": True}),
    "tiny-stablelm-parallel": ("stablelm", {**LLAMA, "hidden_size": 32, "use_parallel_residual": True, "qk_layernorm": True, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "tiny-bloom-5-heads": ("bloom", {**BASE, **TIED, "hidden_size": 40, "n_layer": 2, "n_head": 5}),
    "tiny-gpt2": ("gpt2", {**GPT, **TIED}),
    "tiny-gpt2-by-layer": ("gpt2", {**GPT, "n_inner": 40, "activation_function": "relu", "scale_attn_by_inverse_layer_idx": True}),
    "tiny-gptj": ("gptj", {**GPT, "n_embd": 32, "rotary_dim": 4}),
    "tiny-gpt-neo": ("gpt_neo", {**BASE, **TIED, "hidden_size": 24, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64, "window_size": 4, "attention_types": [[["global", "local"], 1]]}),
    "tiny-gpt-neox": ("gpt_neox", {**NEOX, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}}),
    "tiny-gpt-neox-sequential": ("gpt_neox", {**NEOX, "use_parallel_residual": False, "attention_bias": False, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0}}),
    "tiny-falcon-7b": ("falcon", {**FALCON, **TIED}),
    "tiny-falcon-40b": ("falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "tiny-falcon-11b": ("falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}),
    "tiny-falcon-rw": ("falcon", {**FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True}),
}


def make(name: str, out: Path) -> None:
    kind, settings = MODELS[name]
    torch.manual_seed(sum(map(ord, name)) + 1)
    config = CONFIG_MAPPING[kind](**settings)
    # transformers 5.23's eager Falcon adds ALiBi twice, once in the mask and once to the scores; its default path adds it once.
    attention = "sdpa" if settings.get("alibi") else "eager"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).float().eval()
    with torch.no_grad():
        for key, p in model.named_parameters():  # away from ones and zeros, and near unit scale at the end
            p.copy_(torch.randn_like(p) * (0.25 if p.dim() > 1 else 0.1) + (1.0 if p.dim() == 1 and key.endswith("weight") and "gemma" not in kind else 0.0))
    lengths, width = [12, 9, 5], 12
    draw = torch.randint(3, config.vocab_size, (3, width))
    left_mask = torch.tensor([[0] * (width - n) + [1] * n for n in lengths])
    right_mask = left_mask.flip(1)
    left = draw * left_mask
    right = torch.zeros_like(left)
    for i, n in enumerate(lengths):
        right[i, :n] = left[i, width - n:]
    positions = (left_mask.cumsum(1) - 1).clamp(min=0)
    takes = "position_ids" in inspect.signature(model.forward).parameters
    extra = {"position_ids": positions} if takes else {}
    with torch.no_grad():
        result = model(left, attention_mask=left_mask, output_hidden_states=True, **extra)
    right_out = model(right, attention_mask=right_mask)
    logprobs = right_out.logits[:, :-1].log_softmax(-1).gather(2, right[:, 1:, None]).squeeze(2)
    counts = right_mask[:, 1:].float()
    loss = -(logprobs * counts).sum() / counts.sum()
    loss.backward()
    left_logprobs = result.logits[:, :-1].log_softmax(-1).gather(2, left[:, 1:, None]).squeeze(2)
    greedy = left.clone()
    mask = left_mask.clone()
    least = 1e9
    for _ in range(8):
        pos = {"position_ids": (mask.cumsum(1) - 1).clamp(min=0)} if takes else {}
        with torch.no_grad():
            last = model(greedy, attention_mask=mask, **pos).logits[:, -1]
        top = last.topk(2, dim=-1).values
        least = min(least, (top[:, 0] - top[:, 1]).min().item())
        greedy = torch.cat([greedy, last.argmax(-1, keepdim=True)], 1)
        mask = torch.cat([mask, torch.ones(3, 1, dtype=mask.dtype)], 1)
    folder = out / name
    model.save_pretrained(folder)
    logits_key = "logits_pos" if takes else "logits"
    tensors = {
        "input_ids": left, "attention_mask": left_mask, "position_ids": positions, logits_key: result.logits, "hidden": result.hidden_states[-1],
        "logprobs": left_logprobs, "right_input_ids": right, "right_attention_mask": right_mask, "right_logits": right_out.logits.detach(),
        "loss": loss.detach(), "greedy": greedy,
    }
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / "golden.safetensors")
    save_file({k: p.grad.contiguous() for k, p in model.named_parameters()}, folder / "golden-grads.safetensors")
    facts = {"architecture": type(model).__name__, "takes_position_ids": takes, "loss": loss.item(), "transformers": transformers.__version__,
             "torch": torch.__version__, "parameters": sum(p.numel() for p in model.parameters()), "logits_std": result.logits.std().item(), "least_top2_gap": least}
    (folder / "golden.json").write_text(json.dumps(facts, indent=1))
    print(name, facts)


if __name__ == "__main__":
    for wanted in sys.argv[2:] or list(MODELS):
        make(wanted, Path(sys.argv[1]))
