"""Tables: every number as CSV, and one page for people.

REQUIRED INPUTS: scores/*, generations/*, training/*, models/*, candidates, verdicts/*.
OUTPUTS: tables/*.csv, tables.md.
"""

TRAINED = [name for name in STUDY.systems if name not in EXTERNAL_MODELS]
USES_CANDIDATES = any("candidate_sets" in run_of(STUDY, name).needs for name in STUDY.systems)


rule make_tables:
    """Compute every number of the tables."""
    input:
        scores=[f"{RESULTS}/scores/{name}/COMPLETE" for name in STUDY.systems],
        entropies=[f"{RESULTS}/generations/{name}/COMPLETE" for name in STUDY.systems],
        candidates=[f"{RESULTS}/candidates/COMPLETE"] if USES_CANDIDATES else [],
        runs=[f"{RESULTS}/training/{name}/COMPLETE" for name in TRAINED],
        models=[f"{RESULTS}/models/{name}/COMPLETE" for name in TRAINED],
        verdicts=[f"{RESULTS}/verdicts/{first}-{second}/COMPLETE" for first, second in judged_pairs(STUDY)],
    output:
        done=f"{RESULTS}/tables/COMPLETE",
        record=f"{RESULTS}/tables.prov.json",
    log:
        f"{RESULTS}/logs/make_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_tables.tsv"
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        stage=stage("make_tables", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule render_tables:
    """Render the tables as one page."""
    input:
        tables=f"{RESULTS}/tables/COMPLETE",
    output:
        done=f"{RESULTS}/tables.md",
        record=f"{RESULTS}/tables.md.prov.json",
    log:
        f"{RESULTS}/logs/render_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_tables.tsv"
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("render_tables", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
