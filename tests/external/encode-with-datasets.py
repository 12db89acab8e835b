"""Encodes the chosen conversations of HH-RLHF's file with transformers and datasets, for comparison with encode-with-tschat.ts.

    python tests/external/encode-with-datasets.py FILE.jsonl.gz MODEL
"""

import gzip
import json
import re
import sys
import time

from datasets import Dataset, disable_caching, disable_progress_bar
from transformers import AutoTokenizer

disable_progress_bar()
disable_caching()
path, model = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)


def messages(text: str) -> list[dict]:
    parts = re.split(r"\n\n(Human|Assistant):", text)
    role = {"Human": "user", "Assistant": "assistant"}
    return [{"role": role[parts[i]], "content": parts[i + 1].strip()} for i in range(1, len(parts) - 1, 2)]


start, cpu = time.time(), time.process_time()
rows = [json.loads(line) for line in gzip.open(path, "rt")]
data = Dataset.from_list([{"messages": messages(row["chosen"])} for row in rows])
encode = lambda batch: {"input_ids": tokenizer.apply_chat_template(batch["messages"], tokenize=True)["input_ids"]}
data = data.map(encode, batched=True, remove_columns=["messages"])
print(f"{len(data)} conversations in {time.time() - start:.2f} s, {time.process_time() - cpu:.2f} s of processor time")
