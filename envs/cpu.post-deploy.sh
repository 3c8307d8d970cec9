#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "91aecb9af5679ef129a519e4d6c9f60e2e704974292864455ee566775cc75d60  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh "$CONDA_PREFIX" "" envs/cpu.lock
