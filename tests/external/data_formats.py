"""Writes tests/fixtures/data/formats: the same 200 records in every format that src/data/files reads.

Needs pyarrow and datasets: python tests/external/data_formats.py
"""
import csv
import gzip
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset

OUT = Path(__file__).parents[1] / "fixtures" / "data" / "formats"


def record(i: int) -> dict:
    turns = 2 + 2 * (i % 2)
    return {
        "id": i,
        "large": 2**40 + i,
        "share": i / 8,
        "good": i % 3 == 0,
        "note": None if i % 5 == 0 else f'line {i}\nwith "quotes", a comma and \u4e16\u754c \U0001f600',
        "messages": [
            {"role": "user" if t % 2 == 0 else "assistant", "content": f"turn {t} of {i}"} for t in range(turns)
        ],
        "tags": [f"t{k}" for k in range(i % 4)],
        "scores": {"help": i % 7, "harm": None if i % 2 else 0.5},
    }


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    records = [record(i) for i in range(200)]
    lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records)
    (OUT / "records.jsonl").write_text(lines, encoding="utf-8")
    (OUT / "array.json").write_text(json.dumps(records, indent=1), encoding="utf-8")
    (OUT / "object.json").write_text(json.dumps({"version": "1.0", "about": {"rows": 200}, "data": records}), encoding="utf-8")
    (OUT / "lines.json.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))

    table = pa.Table.from_pylist(records)
    for codec in ["none", "snappy", "zstd", "gzip"]:
        pq.write_table(table, OUT / f"{codec}.parquet", compression=codec, row_group_size=70)
    for name, codec in [("file", None), ("zstd-file", "zstd")]:
        options = pa.ipc.IpcWriteOptions(compression=codec)
        with pa.OSFile(str(OUT / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=70)
    with pa.OSFile(str(OUT / "stream.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=70)
    Dataset(table).save_to_disk(str(OUT / "saved"), num_shards=2)

    flat = ["id", "share", "good", "note"]
    for name, delimiter in [("flat.csv", ","), ("flat.tsv", "\t")]:
        with open(OUT / name, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(flat)
            writer.writerows([[json.dumps(r[k]) if k == "good" else "" if r[k] is None else r[k] for k in flat] for r in records])


main()
