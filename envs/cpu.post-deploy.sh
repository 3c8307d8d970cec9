#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "bd5f0c0c4a9885023f6ccc20dd666f7c5568b3bc88cc19c70255d6cde52d97c0  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cpu.lock
