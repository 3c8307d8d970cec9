#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "c2f109795f6199e6982ea0cdb3af355e0ceb6ff36341428b9e956bbd6019d4af  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cpu.lock
