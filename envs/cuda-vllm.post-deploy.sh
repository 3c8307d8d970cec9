#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-vllm.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "be675bef8a525410c53fbd299a31ec5cfd443a7e12a3a1d721c2d1ef4cbcad27  envs/cuda-vllm.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cuda-vllm.lock
