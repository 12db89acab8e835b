"""Makes tests/fixtures/adapters: adapters by PEFT on the models of tests/fixtures/goldens, and what PEFT computes with them.

    python tests/external/peft_goldens.py [name...]

Needs torch, transformers and peft; run once, in the repository's root. The tests read the files only.
"""
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

FIXTURES = Path("tests/fixtures")
CASES = {
    "llama-some": ("tiny-llama", dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"])),
    "llama-patterns": ("tiny-llama", dict(
        r=4, lora_alpha=8, target_modules=["k_proj", "gate_proj", "up_proj"], use_rslora=True,
        rank_pattern={"layers.1.mlp.gate_proj": 2}, alpha_pattern={"up_proj": 3})),
    "opt-all": ("tiny-opt", dict(r=2, lora_alpha=16, target_modules="all-linear")),
    # Matrices stored [in, out], and projections of all heads in one matrix, heads in turn.
    "gpt2-all": ("tiny-gpt2", dict(r=2, lora_alpha=4, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True)),
    "gpt-neox-all": ("tiny-gpt-neox", dict(r=2, lora_alpha=4, target_modules="all-linear")),
}

torch.set_num_threads(1)
for name in sys.argv[1:] or CASES:
    base, options = CASES[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(FIXTURES / "goldens" / base, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_B" in key:
                parameter.normal_(0, 0.1)
    ids = torch.randint(3, model.config.vocab_size, (2, 8))
    out = model(input_ids=ids, labels=ids)
    out.loss.backward()
    folder = FIXTURES / "adapters" / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    gradients = {
        "gradient." + key.replace(".default", ""): parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad
    }
    golden = {"input_ids": ids, "logits": out.logits.detach(), "loss": out.loss.detach().reshape(1), **gradients}
    save_file({key: value.contiguous() for key, value in golden.items()}, folder / "golden.safetensors")
    print(name, round(out.loss.item(), 4), len(gradients))
