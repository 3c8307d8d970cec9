"""Tables and figures, one page of tables for people, and a report to read in a browser.

REQUIRED INPUTS: scores/*, generations/*, training/*, models/*, candidates/*, verdicts/*, data/evaluation/*.
OUTPUTS: tables/*.csv, tables.md, figures/*, report.html.
"""

TRAINED = [name for name in STUDY.systems if name not in EXTERNAL_MODELS]
NEEDS = {need for name in STUDY.systems for need in run_of(STUDY, name).needs}
USES_CANDIDATES = "candidate_sets" in NEEDS
SAMPLED = SHARDS if "teacher_samples" in NEEDS and not STUDY.external.samples else []


rule make_tables:
    """Compute every number of the tables."""
    input:
        scores=[f"{RESULTS}/scores/{name}/COMPLETE" for name in STUDY.systems],
        entropies=[f"{RESULTS}/generations/{name}/COMPLETE" for name in STUDY.systems],
        candidates=[f"{RESULTS}/{folder}/COMPLETE" for folder in CANDIDATES] if USES_CANDIDATES else [],
        runs=[f"{RESULTS}/training/{name}/COMPLETE" for name in TRAINED],
        models=[f"{RESULTS}/models/{name}/COMPLETE" for name in TRAINED],
        verdicts=[f"{RESULTS}/verdicts/{first}-{second}/COMPLETE" for first, second in judged_pairs(STUDY)],
        sampling_records=[f"{RESULTS}/shards/{shard}.prov.json" for shard in SAMPLED],
        candidates_records=[f"{RESULTS}/{folder}.prov.json" for folder in CANDIDATES] if USES_CANDIDATES else [],
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


rule draw_figures:
    """Draw every figure."""
    input:
        tables=f"{RESULTS}/tables/COMPLETE",
        scores=[f"{RESULTS}/scores/{name}/COMPLETE" for name in STUDY.systems],
        runs=[f"{RESULTS}/training/{name}/COMPLETE" for name in TRAINED],
    output:
        done=f"{RESULTS}/figures/COMPLETE",
        record=f"{RESULTS}/figures.prov.json",
    log:
        f"{RESULTS}/logs/draw_figures.log",
    benchmark:
        f"{RESULTS}/benchmarks/draw_figures.tsv"
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("draw_figures", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule render_report:
    """Render the study as one HTML file."""
    input:
        tables=f"{RESULTS}/tables/COMPLETE",
        figures=f"{RESULTS}/figures/COMPLETE",
        generations=[f"{RESULTS}/generations/{name}/COMPLETE" for name in STUDY.systems],
        datasets=DATASETS,
    output:
        done=f"{RESULTS}/report.html",
        record=f"{RESULTS}/report.html.prov.json",
    log:
        f"{RESULTS}/logs/render_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_report.tsv"
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("render_report", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
