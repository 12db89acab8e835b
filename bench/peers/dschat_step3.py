#!/usr/bin/env python3
"""DeepSpeed-Chat's own step 3 (training/step3_rlhf_finetuning/main.py) on the CPU: one JSON line with the seconds of each iteration.

--src has DeepSpeed-Chat's sources (dschat/ and training/); a copy in a temporary folder runs. What does not run on today's libraries is
put right in this process only (see shims). Actor and reference are --model; critic and reward model are its transformer with a random
value head, written as step 2 would leave them. The batches of its data loader are replaced by those of --prompts (JSON: token ids by
iteration and row), padded on the left to --prompt-length as its collator pads. One batch is one experience, one optimizer step of the
actor and one of the critic. Answers have exactly --new-tokens tokens, with --until-end at most so many. The first iteration is a warm-up
and not given.

score: what generate_experience does besides generating; train: train_rlhf, which also estimates the advantages.
"""
import argparse
import json
import os
import pathlib
import runpy
import shutil
import socket
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
for flag in ("src", "model", "prompts"):
    parser.add_argument(f"--{flag}", required=True)
for flag in ("prompt-length", "new-tokens", "threads"):
    parser.add_argument(f"--{flag}", type=int, required=True)
parser.add_argument("--until-end", action="store_true")
a = parser.parse_args()
batches = json.loads(pathlib.Path(a.prompts).read_text())
batch_size = len(batches[0])

with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
os.environ.update(
    HF_HUB_OFFLINE="1", DS_ACCELERATOR="cpu", OMP_NUM_THREADS=str(a.threads), TOKENIZERS_PARALLELISM="false",
    RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
)
import torch
from memory import peak_resident_bytes
from transformers import AutoModel, AutoTokenizer, PreTrainedModel

torch.set_num_threads(a.threads)


def shims():
    """transformers 5 has no from_tf."""
    inner = PreTrainedModel.from_pretrained.__func__
    PreTrainedModel.from_pretrained = classmethod(lambda cls, *args, from_tf=None, **rest: inner(cls, *args, **rest))


def write_critic(folder):
    model = AutoModel.from_pretrained(a.model, dtype=torch.float32)
    torch.manual_seed(0)
    weights = {f"rwtransformer.{name}": weight for name, weight in model.state_dict().items()}
    weights["v_head.weight"] = torch.randn(1, model.config.hidden_size) * 0.01
    folder.mkdir()
    torch.save(weights, folder / "pytorch_model.bin")
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(a.model).save_pretrained(folder)


def copy_sources(folder):
    """With a stand-in for the data, from which nothing but the number of batches comes."""
    for name in ("dschat", "training"):
        shutil.copytree(pathlib.Path(a.src) / name, folder / name)
    (folder / "data").mkdir()
    record = json.dumps({"prompt": "Human: 2 + 2? Assistant:", "chosen": "4", "rejected": "5"})
    for name in ("train", "eval"):
        (folder / "data" / f"{name}.json").write_text("\n".join([record] * batch_size * (len(batches) + 1)))


def padded(rows, pad):
    """[batch, prompt length] tokens and mask."""
    tokens = torch.tensor([[pad] * (a.prompt_length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (a.prompt_length - len(row)) + [1] * len(row) for row in rows])
    return tokens, mask


def time_stages(trainer_class):
    """Replaces the prompts and measures; gives the list that fills with iterations."""
    iterations = []
    generate_sequence, generate_experience, train = (
        trainer_class._generate_sequence, trainer_class.generate_experience, trainer_class.train_rlhf,
    )

    def timed_generate(self, prompts, mask, step):
        if not a.until_end:
            self.actor_model.module.generation_config.eos_token_id = None
        start = time.perf_counter()
        sequences = generate_sequence(self, prompts, mask, step)
        iterations.append({"generateSeconds": time.perf_counter() - start})
        return sequences

    def timed_experience(self, prompts, mask, step):
        pad = self.tokenizer.pad_token_id
        start = time.perf_counter()
        experience = generate_experience(self, *padded(batches[step], pad), step)
        seconds = time.perf_counter() - start
        answers = experience["input_ids"][:, a.prompt_length:]
        # The pad token is the end token: the first one belongs to the answer.
        lengths = (answers != pad).sum(1).add(1).clamp(max=answers.shape[1]).tolist() if a.until_end else [answers.shape[1]] * batch_size
        iterations[-1].update(scoreSeconds=seconds - iterations[-1]["generateSeconds"], responseLengths=lengths, switchSeconds=0)
        return experience

    def timed_train(self, experience):
        start = time.perf_counter()
        losses = train(self, experience)
        iterations[-1]["trainSeconds"] = time.perf_counter() - start
        return losses

    trainer_class._generate_sequence = timed_generate
    trainer_class.generate_experience = timed_experience
    trainer_class.train_rlhf = timed_train
    return iterations


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    os.environ["HF_DATASETS_CACHE"] = str(folder / "datasets")
    write_critic(folder / "critic")
    copy_sources(folder)
    shims()
    sys.path.insert(0, str(folder))
    from dschat.rlhf.ppo_trainer import DeepSpeedPPOTrainer

    iterations = time_stages(DeepSpeedPPOTrainer)
    flags = {
        "local_rank": 0, "data_path": "local/jsonfile", "data_split": "0,0,1", "data_output_path": folder / "split",
        "actor_model_name_or_path": a.model, "critic_model_name_or_path": folder / "critic", "num_padding_at_beginning": 0,
        "per_device_generation_batch_size": batch_size, "per_device_training_batch_size": batch_size, "generation_batches": 1,
        "ppo_epochs": 1, "max_prompt_seq_len": a.prompt_length, "max_answer_seq_len": a.new_tokens, "dtype": "bf16",
        "actor_zero_stage": 0, "critic_zero_stage": 0, "gradient_accumulation_steps": 1, "num_warmup_steps": 1, "actor_dropout": 0.0,
        "test_stop_step": len(batches),
    }
    sys.argv = ["main.py", "--deepspeed", "--enable_test_mode"]
    for flag, value in flags.items():
        sys.argv += [f"--{flag}", str(value)]
    runpy.run_path(str(folder / "training/step3_rlhf_finetuning/main.py"), run_name="__main__")
if not a.until_end:
    assert all(length == a.new_tokens for each in iterations for length in each["responseLengths"]), iterations
print(json.dumps({"iterations": iterations[1:], "peakResidentBytes": peak_resident_bytes()}))
