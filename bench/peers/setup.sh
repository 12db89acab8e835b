#!/usr/bin/env bash
# Sets up the engines that the benchmarks can run beside ours, in one folder:
#
#   bench/peers/setup.sh FOLDER
#
# FOLDER/venv         Python with torch, transformers, and what DeepSpeed-Chat and TRL need (deepspeed, accelerate, datasets, peft)
# FOLDER/trl112       TRL 1.12, the last with PPO
# FOLDER/llama-build  llama-batched-bench and llama-quantize, built for this processor from llama-cpp-python's source package
#
# Everything comes through pip as it is configured. What is there already is kept. PyPI's torch for Linux brings CUDA libraries of
# several GB; to take another build, name it: TORCH=/path/to/torch.whl, or point PIP_INDEX_URL at an index that has one.
# deepspeed compiles its AdamW when it is first used, which needs a C++ compiler. DeepSpeed-Chat's own sources are not brought by this
# script: give the folder that has its dschat/ and training/ as --peer-dschat or in DSCHAT_DIR.
# A model for llama.cpp in bfloat16 from another GGUF file:
#
#   FOLDER/llama-build/bin/llama-quantize --allow-requantize MODEL.gguf MODEL-bf16.gguf BF16
set -euo pipefail
[ $# -eq 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
mkdir -p "$1" && cd "$1"
llama=llama_cpp_python-0.3.36

if ! venv/bin/python -c 'import torch, transformers' 2>/dev/null; then
  "${PYTHON:-python3}" -m venv venv
  venv/bin/pip install "${TORCH:-torch==2.15.0}" transformers==5.23.0 numpy
fi
if ! venv/bin/python -c 'import accelerate, datasets, deepspeed, peft' 2>/dev/null; then
  venv/bin/pip install accelerate==1.15.0 datasets==5.2.0 peft==0.21.2 psutil ninja tensorboard setuptools
  DS_BUILD_OPS=0 DS_ACCELERATOR=cpu venv/bin/pip install --no-build-isolation deepspeed==0.19.8
fi
if [ ! -d trl112/trl ]; then
  venv/bin/pip install --no-deps --target trl112 trl==1.12.0
fi
if [ ! -x llama-build/bin/llama-batched-bench ]; then
  venv/bin/pip install cmake scikit-build-core
  venv/bin/pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36
  tar -xzf $llama.tar.gz
  venv/bin/cmake -S $llama/vendor/llama.cpp -B llama-build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
  venv/bin/cmake --build llama-build --parallel --target llama-batched-bench llama-quantize
fi
echo "ready: $PWD"
