"""Writes the files of tests/fixtures/torch-files: what torch.save makes of tensors of every kind, and pickles that want more than tensors.

    python tests/external/torch_files.py tests/fixtures/torch-files
"""

import builtins
import json
import os
import pathlib
import sys
from collections import OrderedDict

import torch


def tensors() -> OrderedDict:
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 4 - 1
    shared = torch.tensor([0.5, -1.5, 2.5, 8.0])
    return OrderedDict(
        bytes3=torch.tensor([1, 2, 255], dtype=torch.uint8),  # three bytes, so that what follows in the old format is not aligned
        matrix=base.clone(),
        half=torch.tensor([1.5, -0.25, 65504.0], dtype=torch.float16),
        brain=torch.tensor([[1.5, -3.0e38]], dtype=torch.bfloat16),
        double=torch.tensor([0.1], dtype=torch.float64),
        int64=torch.tensor([-(2**40), 3]),
        int32=torch.tensor([-(2**31), 7], dtype=torch.int32),
        int16=torch.tensor([-300, 300], dtype=torch.int16),
        int8=torch.tensor([-128, 127], dtype=torch.int8),
        flags=torch.tensor([True, False, True]),
        scalar=torch.tensor(2.25),
        empty=torch.zeros(0, 3),
        transposed=base.t(),
        columns=base[:, 1:3],
        every_second=shared[1::2],
        shared=shared,
        shared_again=shared.view(2, 2),
        expanded=torch.tensor([[3.0], [4.0]]).expand(2, 3),
        parameter=torch.nn.Parameter(torch.tensor([7.0, -7.0])),
    )


class Call:
    """Pickles as a call of `function` with `args`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    named = tensors()
    torch.save(named, folder / "zip.bin")
    torch.save(named, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    expected = {
        name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}
        for name, tensor in named.items()
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")

    torch.manual_seed(0)
    linear = torch.nn.Linear(2, 3)
    torch.save(linear.state_dict(), folder / "module.bin")  # an OrderedDict with an attribute, _metadata
    state = {name: tensor.tolist() for name, tensor in linear.state_dict().items()}
    (folder / "module.json").write_text(json.dumps(state) + "\n")

    weight = torch.ones(2)
    for name, value in {
        "os-system": Call(os.system, "touch pwned"),
        "eval": Call(builtins.eval, "1 + 1"),
        "exec": Call(builtins.exec, "pwned = True"),
        "getattr": Call(getattr, weight, "data"),
        "fp8": weight.to(torch.float8_e4m3fn),
        "sparse": weight.to_sparse(),
        "number": 3,
    }.items():
        torch.save({"weight": weight, "other": value}, folder / f"{name}.bin")
    torch.save({"weight": weight, "other": Call(os.system, "touch pwned")}, folder / "os-system-legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"weight": weight}, folder / "protocol4.bin", pickle_protocol=4)
    torch.save(weight, folder / "tensor-alone.bin")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
