#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-train.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "5743bee4cf8e84ee740322cc4d5b66046311b01cb67b641ab09eaccf8769c564  envs/cuda-train.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cuda-train.lock
