"""Makes tests/fixtures/gguf/quants.safetensors: random blocks of GGML's quantised types, and the values that `gguf` reads from them.

    python tests/external/gguf_goldens.py

Needs numpy, safetensors and gguf (made with 0.19.0); run once, in the repository's root. The tests read the file only.
"""
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from safetensors.numpy import save_file

TYPES = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS"]
# Where a block has half-precision numbers: random bits there would be infinite or NaN now and then.
HALVES = {"Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0]}
BLOCKS = 4

random = np.random.default_rng(0)
tensors = {}
for name in TYPES:
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
    for block in range(BLOCKS):
        for at in HALVES[name]:
            # The last block's scales are subnormal.
            scale = random.normal() * (1e-6 if block == BLOCKS - 1 else 0.01)
            blocks[block, at : at + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    tensors[f"{name}.blocks"] = blocks
    tensors[f"{name}.values"] = np.ascontiguousarray(quants.dequantize(blocks.copy(), kind).astype(np.float32).reshape(BLOCKS, -1))

# Q8_0 in the other direction: rows with ties, a zero row, tiny and large numbers.
rows = random.normal(size=(6, 64)).astype(np.float32)
rows[1] = 0
rows[2] *= np.float32(1e-8)
rows[3] *= np.float32(1e5)
rows[4] = (np.arange(64) - 32).astype(np.float32) / 2
rows[4, 0] = 127
rows[5, 32:] = np.float32(1e-35)
tensors["quantize.values"] = rows
tensors["quantize.Q8_0"] = quants.quantize(rows, GGMLQuantizationType.Q8_0)
folder = Path("tests/fixtures/gguf")
folder.mkdir(parents=True, exist_ok=True)
save_file(tensors, folder / "quants.safetensors")
print({name: tensor.shape for name, tensor in tensors.items()})
