"""Bellman Distill: from one config to the tables and figures of a distillation study.

REQUIRED INPUTS: none beyond the config; the embedded study makes its own data and models.
OUTPUTS: results/tables.md, results/tables/*.csv, results/figures/*, results/report.html; a record beside every artifact;
results/MANIFEST.json, which lists every file.
"""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

# A config given with --configfile stands alone; keys that it leaves out take the embedded study's values.
if not workflow.overwrite_configfiles:

    # The working directory's own, else the repository's.
    configfile: "config.yaml" if Path("config.yaml").is_file() else Path(str(workflow.current_basedir)) / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/samples.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/report.smk"


rule all:
    """Tables, figures and report."""
    default_target: True
    input:
        f"{RESULTS}/tables.md",
        f"{RESULTS}/tables/COMPLETE",
        f"{RESULTS}/figures/COMPLETE",
        f"{RESULTS}/report.html",


rule selected:
    """Stop once checkpoints are chosen, on dev data alone."""
    input:
        [f"{RESULTS}/models/{name}/COMPLETE" for name in STUDY.systems],
