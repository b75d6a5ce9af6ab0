#!/usr/bin/env bash
# All figures of a GPU in one command of at most nine minutes; see gpu.py. It runs on a bare machine, from a checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
export TRANSFORMERS_DISABLE_TORCH_CHECK=1 # as labeler sets it when it loads models for a GPU
PYTHONPATH="$PWD" HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 exec timeout 540 python3 benchmarks/gpu.py "$@"
