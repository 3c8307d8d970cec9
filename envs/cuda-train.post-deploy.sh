#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cuda-train.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "717a344b6c53dd0d11507d35ac1c25ae7f3e82616d2224034612d4c16fbca6cf  envs/cuda-train.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cuda-train.lock
