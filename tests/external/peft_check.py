"""Loads an adapter that tschat wrote with PEFT, and compares with the merged model that tschat wrote beside it.

    python tests/external/peft_check.py BASE MODEL

BASE is the folder that training started from, MODEL the folder that a step with LoRA wrote, with `adapter/` in it. Reward models are
recognised. Needs torch, transformers and peft; prints the largest difference of the logits in float32 and fails above 1e-4.
"""
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

base, merged = sys.argv[1], Path(sys.argv[2])
is_reward = json.loads((merged / "config.json").read_text())["architectures"][0].endswith("ForSequenceClassification")
kind = AutoModelForSequenceClassification if is_reward else AutoModelForCausalLM
options = dict(dtype=torch.float32, attn_implementation="eager")
# Pads are never seen, but a reward model wants to know which token they are.
reward = dict(num_labels=1, pad_token_id=json.loads((merged / "config.json").read_text())["pad_token_id"]) if is_reward else {}
adapted = PeftModel.from_pretrained(kind.from_pretrained(base, **options, **reward), merged / "adapter").eval()
whole = kind.from_pretrained(merged, **options).eval()
torch.manual_seed(0)
ids = torch.randint(3, whole.config.vocab_size, (2, 24))
with torch.no_grad():
    first, second = adapted(input_ids=ids).logits, whole(input_ids=ids).logits
    plain = kind.from_pretrained(base, **options, **reward).eval()(input_ids=ids).logits
difference = (first - second).abs().max().item()
print(f"PEFT {sum('lora_A' in key for key in adapted.state_dict())} linears; largest difference {difference:.2e}; "
      f"the adapter changes logits by up to {(first - plain).abs().max().item():.2e}")
sys.exit(difference > 1e-4)
