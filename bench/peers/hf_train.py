#!/usr/bin/env python3
"""A training step of transformers on the CPU, forward + backward + AdamW: one JSON line with the seconds of each step and peak memory.

dtype is float32, bfloat16 (weights, gradients and Adam's states) or amp (weights in float32, autocast to bfloat16). Rows are padded on
the left by up to 64 tokens, as real ones are: without any padding transformers gives its attention no mask, and takes a path that is
slower on the CPU. The first step is a warm-up and not given.
"""
import argparse
import json
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--dtype", required=True, choices=["float32", "bfloat16", "amp"])
parser.add_argument("--checkpointing", action="store_true")
for flag in ("threads", "batch", "length", "repeats"):
    parser.add_argument(f"--{flag}", type=int, required=True)
a = parser.parse_args()

import torch
from memory import peak_resident_bytes
from transformers import AutoModelForCausalLM

torch.set_num_threads(a.threads)
torch.manual_seed(0)
is_amp = a.dtype == "amp"
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32 if is_amp else getattr(torch, a.dtype)).train()
if a.checkpointing:
    model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
ids = torch.randint(10, model.config.vocab_size, (a.batch, a.length))
mask, labels = torch.ones_like(ids), ids.clone()
for row in range(a.batch):
    padding = min(64, a.length // 4) * (row + 1) // a.batch
    mask[row, :padding], labels[row, :padding] = 0, -100

steps = []
for _ in range(a.repeats + 1):
    times = [time.perf_counter()]
    with torch.autocast("cpu", torch.bfloat16, enabled=is_amp):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    times.append(time.perf_counter())
    loss.backward()
    times.append(time.perf_counter())
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    times.append(time.perf_counter())
    forward, backward, update = (end - start for start, end in zip(times, times[1:]))
    steps.append({"forwardSeconds": forward, "backwardSeconds": backward, "optimizerSeconds": update})
print(json.dumps({"steps": steps[1:], "peakResidentBytes": peak_resident_bytes()}))
