#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-train.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "a790a089dfe7d2dc8ecbdd9c2f1bfa8809fa157ebca0f95c925db20306a2bbd0  envs/cuda-train.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cuda-train.lock
