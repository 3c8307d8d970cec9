#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-train.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "2fdc33e95a0738acc2a9b0c9c3bc7732e7713c98ba9d868a0eb49d611a59d610  envs/cuda-train.lock" | sha256sum --check --quiet
bash envs/install.sh envs/cuda-train.lock "$CONDA_PREFIX"
