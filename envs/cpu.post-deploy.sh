#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "770ebf114b8b2b69e6070b20360f27a9f617be2bf87b4dc6f79d3b3c1b7fe5cc  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cpu.lock
