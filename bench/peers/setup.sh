#!/usr/bin/env bash
# Sets up the engines that the benchmarks can run beside ours, in one folder:
#
#   bench/peers/setup.sh FOLDER
#
# FOLDER/venv         Python with torch and transformers
# FOLDER/llama-build  llama-batched-bench and llama-quantize, built for this processor from llama-cpp-python's source package
#
# Everything comes through pip as it is configured. What is there already is kept. PyPI's torch for Linux brings CUDA libraries of
# several GB; to take another build, name it: TORCH=/path/to/torch.whl, or point PIP_INDEX_URL at an index that has one.
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
if [ ! -x llama-build/bin/llama-batched-bench ]; then
  venv/bin/pip install cmake scikit-build-core
  venv/bin/pip download --no-deps --no-binary :all: --no-build-isolation llama-cpp-python==0.3.36
  tar -xzf $llama.tar.gz
  venv/bin/cmake -S $llama/vendor/llama.cpp -B llama-build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
  venv/bin/cmake --build llama-build --parallel --target llama-batched-bench llama-quantize
fi
echo "ready: $PWD"
