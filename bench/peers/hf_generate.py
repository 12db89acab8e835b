#!/usr/bin/env python3
"""transformers' generate on the CPU: one JSON line with tokens per second of prefill and of decoding.

prefill is one forward that fills the cache and gives the last logits; decode is the time of all new tokens less that of one,
as in ours: random prompts, temperature 1, no end token. Prompts are padded on the left by up to 64 tokens, as real ones are:
without any padding transformers gives its attention no mask, and takes a path that is slower on the CPU.
"""
import argparse
import json
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--dtype", required=True)
for flag in ("threads", "batch", "prompt-length", "new-tokens"):
    parser.add_argument(f"--{flag}", type=int, required=True)
a = parser.parse_args()

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

torch.set_num_threads(a.threads)
torch.manual_seed(0)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=getattr(torch, a.dtype)).eval()
pad = model.config.pad_token_id or 0
model.generation_config = GenerationConfig(pad_token_id=pad)
ids = torch.randint(10, model.config.vocab_size, (a.batch, a.prompt_length))
mask = torch.ones_like(ids)
for row in range(a.batch):
    padding = min(64, a.prompt_length // 4) * (row + 1) // a.batch
    ids[row, :padding], mask[row, :padding] = pad, 0


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def generate(n):
    sampling = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    out = model.generate(ids, attention_mask=mask, max_new_tokens=n, min_new_tokens=n, **sampling)
    assert out.shape[1] == a.prompt_length + n, out.shape


def prefill():
    model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)


with torch.inference_mode():
    for _ in range(2):
        generate(min(4, a.new_tokens))
    prefill_seconds = seconds(prefill)
    decode = None
    if a.new_tokens > 1:
        first = seconds(lambda: generate(1))
        decode = a.batch * (a.new_tokens - 1) / (seconds(lambda: generate(a.new_tokens)) - first)
print(json.dumps({"prefill": a.batch * a.prompt_length / prefill_seconds, "decode": decode}))
