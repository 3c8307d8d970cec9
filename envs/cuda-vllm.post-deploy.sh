#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-vllm.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "864f6510c7cc4c42be120ea210e91bdbd43e2f9562c49b6acf7d0f0a0b627c31  envs/cuda-vllm.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cuda-vllm.lock
