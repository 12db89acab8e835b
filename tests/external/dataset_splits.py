"""Writes tests/fixtures/hub/splits.json: which files Hugging Face's `datasets` takes for which split, by file names alone.

    python tests/external/dataset_splits.py tests/fixtures/hub/splits.json

Made with datasets 5.2.
"""
import json
import os
import sys
import tempfile

from datasets.data_files import DataFilesDict, get_data_patterns

CASES = [
    ["train.jsonl", "test.jsonl"],
    ["train.json.gz", "validation.json.gz", "README.md"],
    ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"],
    ["data/train-00000-of-00001-abc123.parquet", "data/random-00000-of-00001.parquet", "extra.csv"],
    ["data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet"],
    ["helpful-base/train.jsonl.gz", "helpful-base/test.jsonl.gz", "harmless-base/train.jsonl.gz", "harmless-base/test.jsonl.gz"],
    ["train/a.jsonl", "train/b.jsonl", "test/a.jsonl"],
    ["data/train/a.csv", "data/dev/a.csv", "data/eval/b.csv"],
    ["comparisons.jsonl"],
    ["a.jsonl", "b.jsonl", "sub/c.jsonl"],
    ["my_train_file.csv", "my_test_file.csv"],
    ["train1.csv", "train2.csv", "valid.csv"],
    ["training.csv", "evaluation.csv", "testing.csv"],
    ["constrained.csv", "latest.csv"],
    ["trainset.csv", "testset.csv"],
    ["en/train.json", "en/dev.json", "de/train.json", "de/dev.json"],
    ["train-v1.1.json", "dev-v1.1.json"],
    ["data.train.jsonl", "data.val.jsonl"],
    ["some train/x.csv", "train some/y.csv"],
    ["train/test.csv", "x.csv"],
    ["Train.csv", "Test.csv"],
    ["data/en-00000-of-00001.parquet", "data/fr-00000-of-00001.parquet"],
    [".hidden/train.csv", "b.csv", "__pycache__/train.csv"],
    ["sub/data/train-00000-of-00001.parquet", "sub/data/test-00000-of-00001.parquet"],
]


def splits_of(names):
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").close()
        found = DataFilesDict.from_patterns(get_data_patterns(folder), base_path=folder)
        return {str(split): sorted(os.path.relpath(file, os.path.realpath(folder)) for file in files if not file.endswith(".md"))
                for split, files in found.items()}


with open(sys.argv[1], "w") as output:
    json.dump([{"files": names, "splits": splits_of(names)} for names in CASES], output, indent=1)
    output.write("\n")
