"""Bellman Distill: the logic behind every rule of the workflow, importable and usable without Snakemake."""
