"""Computes the logits of model folders with transformers; tests/external/transformers.ts runs it.

    python tests/external/load-in-transformers.py < REQUESTS

REQUESTS is a JSON list of {"folder", "tokens", "output"}. Each folder is loaded as AutoModelForCausalLM in float32, and the logits of the
token rows [batch, seq] are written to `output` as raw float32. A parameter that is missing or unexpected is an error. Prints the version.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
# Version 4 has another name for the dtype.
dtype_name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"



def attention(folder: str) -> str:
    """Falcon with ALiBi: transformers 5 adds it twice in its eager attention, and once in its default."""
    return "sdpa" if json.loads(Path(folder, "config.json").read_text()).get("alibi") else "eager"


for request in json.load(sys.stdin):
    model, info = AutoModelForCausalLM.from_pretrained(
        request["folder"], attn_implementation=attention(request["folder"]), output_loading_info=True, **{dtype_name: torch.float32}
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            sys.exit(f"{request['folder']}: {kind}: {sorted(map(str, info[kind]))[:5]}")
    with torch.no_grad():
        logits = model.eval()(input_ids=torch.tensor(request["tokens"])).logits
    logits.to(torch.float32).contiguous().numpy().tofile(request["output"])
print(transformers.__version__)
