"""Tables and figures, one page of tables for people, and a report to read in a browser.

REQUIRED INPUTS: scores/*, efficiency, generations/*, training/*, models/*, candidates/*, verdicts/*, rankings/*, data/evaluation/*.
OUTPUTS: tables/*.csv, tables.md, figures/*, report.html.
"""

TRAINED = [name for name, system in STUDY.systems.items() if system.is_trained]
USED = {need for name in STUDY.systems for need in run_of(STUDY, name).needs}
CANDIDATES = needed_folders(USED & {"candidate_sets"}, len(SHARDS)).get("candidates", [])
RANKED = [job["system"] for job in STAGES["rank_pairs"].each(STUDY)]
SAMPLED = SHARDS if "teacher_samples" in USED and not STUDY.adopts_samples else []


rule make_tables:
    """Compute every number of the tables."""
    input:
        scores=[f"{RESULTS}/scores/{name}/COMPLETE" for name in STUDY.systems],
        entropies=[f"{RESULTS}/generations/{name}/COMPLETE" for name in STUDY.systems],
        candidates=[f"{RESULTS}/{folder}/COMPLETE" for folder in CANDIDATES],
        runs=[f"{RESULTS}/training/{name}/COMPLETE" for name in TRAINED],
        models=[f"{RESULTS}/models/{name}/COMPLETE" for name in TRAINED],
        verdicts=[f"{RESULTS}/verdicts/{first}-{second}/COMPLETE" for first, second in judged_pairs(STUDY)],
        rankings=[f"{RESULTS}/rankings/{name}/COMPLETE" for name in RANKED],
        efficiency=[f"{RESULTS}/efficiency/COMPLETE"] * bool(measured_systems(STUDY)),
        sampling_records=[f"{RESULTS}/shards/{shard}.prov.json" for shard in SAMPLED],
        candidates_records=[f"{RESULTS}/{folder}.prov.json" for folder in CANDIDATES],
    output:
        done=f"{RESULTS}/tables/COMPLETE",
        record=f"{RESULTS}/tables.prov.json",
    log:
        f"{RESULTS}/logs/make_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_tables.tsv"
    conda:
        conda_file("make_tables")
    threads: STAGES["make_tables"].threads(STUDY)
    resources:
        **resources_of("make_tables"),
    params:
        start=launcher("make_tables"),
        key=key("make_tables"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule render_tables:
    """Render the tables as one page."""
    input:
        tables=f"{RESULTS}/tables/COMPLETE",
    output:
        done=report(f"{RESULTS}/tables.md", category="Tables as text"),
        record=f"{RESULTS}/tables.md.prov.json",
    log:
        f"{RESULTS}/logs/render_tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_tables.tsv"
    conda:
        conda_file("render_tables")
    threads: STAGES["render_tables"].threads(STUDY)
    resources:
        **resources_of("render_tables"),
    params:
        start=launcher("render_tables"),
        key=key("render_tables"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("draw_figures")
    threads: STAGES["draw_figures"].threads(STUDY)
    resources:
        **resources_of("draw_figures"),
    params:
        start=launcher("draw_figures"),
        key=key("draw_figures"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule render_report:
    """Render the study as one HTML file."""
    input:
        tables=f"{RESULTS}/tables/COMPLETE",
        figures=f"{RESULTS}/figures/COMPLETE",
        generations=[f"{RESULTS}/generations/{name}/COMPLETE" for name in STUDY.systems],
        verdicts=[f"{RESULTS}/verdicts/{first}-{second}/COMPLETE" for first, second in judged_pairs(STUDY)],
        datasets=DATASETS,
    output:
        done=report(f"{RESULTS}/report.html", category="Tables, figures and answers"),
        record=f"{RESULTS}/report.html.prov.json",
    log:
        f"{RESULTS}/logs/render_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/render_report.tsv"
    conda:
        conda_file("render_report")
    threads: STAGES["render_report"].threads(STUDY)
    resources:
        **resources_of("render_report"),
    params:
        start=launcher("render_report"),
        key=key("render_report"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
