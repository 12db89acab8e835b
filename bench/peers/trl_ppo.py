#!/usr/bin/env python3
"""TRL's PPO on the CPU (policy, reference, value and reward model): one JSON line with the seconds of each iteration.

--trl is a folder with TRL 1.12, the last with PPO (trl.experimental.ppo). --prompts is JSON: token ids by iteration and row. One batch
is one rollout, one pass and one optimizer step of policy and value model together. Answers have exactly --new-tokens tokens, with
--until-end at most so many. The first iteration is a warm-up and not given.

generate: its batch_generation; train: from the update's first forward on; score: what is between, the advantages too.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
for flag in ("trl", "model", "prompts", "dtype"):
    parser.add_argument(f"--{flag}", required=True)
for flag in ("new-tokens", "threads"):
    parser.add_argument(f"--{flag}", type=int, required=True)
parser.add_argument("--until-end", action="store_true")
a = parser.parse_args()
batches = json.loads(pathlib.Path(a.prompts).read_text())
batch_size = len(batches[0])

sys.path.insert(0, a.trl)
os.environ.update(
    HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1", CUDA_VISIBLE_DEVICES="", ACCELERATE_USE_CPU="true",
)
import torch
import trl.experimental.ppo.ppo_trainer as ppo
from datasets import Dataset
from memory import peak_resident_bytes
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
from trl.experimental.ppo import PPOConfig, PPOTrainer

torch.set_num_threads(a.threads)
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(a.model, padding_side="left")
# Where the pad token is the end token, TRL's masks would take ends for padding.
tokenizer.pad_token = tokenizer.unk_token


def load(kind, **rest):
    model = kind.from_pretrained(a.model, dtype=getattr(torch, a.dtype), **rest)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model


policy, reference = load(AutoModelForCausalLM), load(AutoModelForCausalLM)
value, reward = (load(AutoModelForSequenceClassification, num_labels=1) for _ in range(2))
policy.generation_config.eos_token_id = tokenizer.eos_token_id if a.until_end else None
policy.generation_config.pad_token_id = tokenizer.pad_token_id

iterations, train_starts = [], []
inner_generation, inner_forward, inner_loader = ppo.batch_generation, ppo.forward, ppo.DataLoader


def timed_generation(model, queries, *rest):
    start = time.perf_counter()
    sequences, logits = inner_generation(model, queries, *rest)
    answers = sequences[:, queries.shape[1]:]
    if a.until_end:
        ends = (answers == tokenizer.eos_token_id).int()
        lengths = torch.where(ends.any(1), ends.argmax(1) + 1, answers.shape[1]).tolist()
    else:
        lengths = [answers.shape[1]] * batch_size
    iterations.append({"generateSeconds": time.perf_counter() - start, "responseLengths": lengths, "switchSeconds": 0})
    return sequences, logits


def timed_forward(model, *rest):
    if isinstance(model, ppo.PolicyAndValueWrapper) and len(train_starts) < len(iterations):
        train_starts.append(time.perf_counter())
    return inner_forward(model, *rest)


class Clock(TrainerCallback):
    def on_train_begin(self, *args, **rest):
        self.start = time.perf_counter()

    def on_step_end(self, *args, **rest):
        end, each = time.perf_counter(), iterations[-1]
        each["trainSeconds"] = end - train_starts[-1]
        each["scoreSeconds"] = train_starts[-1] - self.start - each["generateSeconds"]
        self.start = end


ppo.batch_generation, ppo.forward = timed_generation, timed_forward
ppo.DataLoader = lambda *args, **rest: inner_loader(*args, **{**rest, "shuffle": False})
with tempfile.TemporaryDirectory() as folder:
    config = PPOConfig(
        output_dir=folder, use_cpu=True, bf16=False, learning_rate=1e-6, response_length=a.new_tokens,
        stop_token="eos" if a.until_end else None, per_device_train_batch_size=batch_size, local_rollout_forward_batch_size=batch_size,
        gradient_accumulation_steps=1, num_mini_batches=1, num_ppo_epochs=1, total_episodes=batch_size * len(batches),
        gradient_checkpointing=False, num_sample_generations=0, report_to="none", save_strategy="no", eval_strategy="no", logging_steps=1,
        dataloader_pin_memory=False,
    )
    data = Dataset.from_list([{"input_ids": row} for batch in batches for row in batch])
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=policy, ref_model=reference, reward_model=reward, value_model=value,
        train_dataset=data, eval_dataset=data.select(range(batch_size)), callbacks=[Clock()],
    )
    trainer.train()
assert len(iterations) == len(train_starts) == len(batches), (len(iterations), len(train_starts))
if not a.until_end:
    assert all(length == a.new_tokens for each in iterations for length in each["responseLengths"]), iterations
print(json.dumps({"iterations": iterations[1:], "peakResidentBytes": peak_resident_bytes()}))
