"""Makes tests/fixtures/gguf/*.gguf with llama.cpp's converter: a tiny random model of every architecture that tschat reads.

    python tests/external/gguf_architectures.py LLAMA_CPP_CHECKOUT [FOLDER]

Beside each file lie its configuration and a hash of every tensor as the Hugging Face folder has it. With FOLDER the folders themselves are
kept there. Needs torch, transformers and llama.cpp's sources; the tests read the fixtures only.
"""
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

checkout = Path(sys.argv[1])
sys.path[:0] = [str(checkout), str(checkout / "gguf-py")]
import gguf  # noqa: E402
from conversion import ModelBase, get_model_class  # noqa: E402

OUT = Path("tests/fixtures/gguf")
KEEP = Path(sys.argv[2]) if len(sys.argv) > 2 else None
COMMON = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, vocab_size=24, max_position_embeddings=64,
              bos_token_id=1, eos_token_id=2, pad_token_id=0)
GROUPED = dict(COMMON, intermediate_size=32, num_key_value_heads=2)
MODELS = {
    "llama": dict(GROUPED, model_type="llama", head_dim=16, rms_norm_eps=1e-5, rope_theta=500000.0, max_position_embeddings=131072,
                  rope_scaling=dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                    original_max_position_embeddings=8192)),
    "mistral": dict(GROUPED, model_type="mistral", head_dim=8, sliding_window=None, tie_word_embeddings=False),
    "qwen2": dict(GROUPED, model_type="qwen2", rope_theta=1000000.0, tie_word_embeddings=True),
    "qwen3": dict(GROUPED, model_type="qwen3", head_dim=8, tie_word_embeddings=False),
    "gemma": dict(GROUPED, model_type="gemma", head_dim=8),
    "gemma2": dict(GROUPED, model_type="gemma2", head_dim=8, query_pre_attn_scalar=8, sliding_window=8),
    "gemma3": dict(GROUPED, model_type="gemma3_text", head_dim=8, query_pre_attn_scalar=8, sliding_window=8, num_hidden_layers=7),
    "phi3": dict(GROUPED, model_type="phi3", max_position_embeddings=128, original_max_position_embeddings=64,
                 rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1], long_factor=[1.5, 2.5])),
    "gpt2": dict(model_type="gpt2", n_embd=16, n_layer=2, n_head=4, n_positions=64, vocab_size=24, bos_token_id=1, eos_token_id=2),
    "gptneox": dict(COMMON, model_type="gpt_neox", intermediate_size=32, rotary_pct=0.5, use_parallel_residual=False),
    "bloom": dict(model_type="bloom", hidden_size=16, n_layer=2, n_head=4, vocab_size=24, seq_length=64, bos_token_id=1, eos_token_id=2),
    "falcon-7b": dict(COMMON, model_type="falcon", new_decoder_architecture=False, multi_query=True, parallel_attn=True, bias=False,
                      alibi=False),
    "falcon-40b": dict(COMMON, model_type="falcon", new_decoder_architecture=True, num_kv_heads=2, parallel_attn=True, bias=False,
                       alibi=False),
    "stablelm": dict(GROUPED, model_type="stablelm", use_qkv_bias=True, partial_rotary_factor=0.5, layer_norm_eps=1e-5),
}


def convert(folder: Path, out: Path) -> None:
    hparams = ModelBase.load_hparams(folder, False)
    # Keys of transformers 4, which the converter reads.
    hparams.setdefault("n_ctx", 64)
    hparams.setdefault("rotary_pct", 0.5)
    if hparams.get("multi_query") and not hparams["new_decoder_architecture"]:
        hparams["num_kv_heads"] = 1
    kind = get_model_class(hparams["architectures"][0])

    class Converter(kind):
        model_arch = kind.model_arch

        def set_vocab(self):
            self._set_vocab_none()

    # Gemma 3's converter cuts the token table to the length of the vocabulary.
    if not (folder / "tokenizer.json").exists():
        (folder / "tokenizer.json").write_text(json.dumps(dict(model=dict(vocab={str(i): i for i in range(24)}), added_tokens=[])))
    Converter(folder, gguf.LlamaFileType.ALL_F32, out, hparams=hparams).write()


for name, settings in MODELS.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(**settings)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # Multiples of 1 / 256, to which one can be added and taken away again.
            is_norm = parameter.dim() == 1 and "bias" not in key and "gemma" not in name
            parameter.copy_((torch.randn_like(parameter) * 25).round() / 256 + is_norm)
    with tempfile.TemporaryDirectory() as temporary:
        folder = KEEP / name if KEEP else Path(temporary)
        model.save_pretrained(folder)
        convert(folder, OUT / f"{name}.gguf")
        with safe_open(folder / "model.safetensors", "np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    hashes = {key: dict(shape=list(value.shape), sha256=hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest())
              for key, value in sorted(tensors.items())}
    (OUT / f"{name}.json").write_text(json.dumps(dict(config=json.loads(config.to_json_string(use_diff=False)), tensors=hashes), indent=1) + "\n")
    print(name, (OUT / f"{name}.gguf").stat().st_size)
