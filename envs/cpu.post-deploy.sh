#!/usr/bin/env bash
# Run by Snakemake, from the repository's root, in the conda environment it has just made of cpu.yaml. The digest
# belongs here because Snakemake makes a new environment when this text changes, not when the lock does.
set -euo pipefail
echo "6846d51dc495ffa636118c1c01f51666826188d06184e32d9f820f28fd4e4caa  envs/cpu.lock" | sha256sum --check --quiet
bash envs/install.sh envs/cpu.lock "$CONDA_PREFIX"
