#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "98da053645022a60f854331e491c9c0e8bb2c02d1a21ee8caa1a8387b81ceec2  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh envs/cpu.lock "$CONDA_PREFIX"
