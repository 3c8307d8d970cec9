"""Answers of every selected model to every evaluation set, their scores, what it costs to run, and its ranking of
preference pairs.

REQUIRED INPUTS: models/*, data/evaluation/*, data/pairs, vocabularies/*, tokenizer.
OUTPUTS: generations/*, scores/*, efficiency, rankings/*.
"""

DATASETS = [f"{RESULTS}/data/evaluation/{name}/COMPLETE" for name in STUDY.data.evaluation]


rule generate_responses:
    """Generate one model's answers: every set, decoding and seed."""
    input:
        model=f"{RESULTS}/models/{{system}}/COMPLETE",
        datasets=DATASETS,
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/generations/{{system}}/COMPLETE",
        record=f"{RESULTS}/generations/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/generate_responses/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/generate_responses/{{system}}.tsv"
    conda:
        conda_file("generate_responses")
    threads: STAGES["generate_responses"].threads(STUDY)
    resources:
        **resources_of("generate_responses"),
    params:
        start=launcher("generate_responses"),
        key=key("generate_responses"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule score_responses:
    """Score one model's answers."""
    input:
        generations=f"{RESULTS}/generations/{{system}}/COMPLETE",
        datasets=DATASETS,
    output:
        done=f"{RESULTS}/scores/{{system}}/COMPLETE",
        record=f"{RESULTS}/scores/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/score_responses/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/score_responses/{{system}}.tsv"
    conda:
        conda_file("score_responses")
    threads: STAGES["score_responses"].threads(STUDY)
    resources:
        **resources_of("score_responses"),
    params:
        start=launcher("score_responses"),
        key=key("score_responses"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule measure_efficiency:
    """Measure what the selected models cost to run, one after another, with no other job on this machine."""
    input:
        models=[f"{RESULTS}/models/{name}/COMPLETE" for name in measured_systems(STUDY)],
        dataset=DATASETS[0],
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/efficiency/COMPLETE",
        record=f"{RESULTS}/efficiency.prov.json",
    log:
        f"{RESULTS}/logs/measure_efficiency.log",
    benchmark:
        f"{RESULTS}/benchmarks/measure_efficiency.tsv"
    conda:
        conda_file("measure_efficiency")
    threads: threads_alone(STAGES["measure_efficiency"])
    resources:
        **resources_of("measure_efficiency"),
    params:
        start=launcher("measure_efficiency"),
        key=key("measure_efficiency"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule rank_pairs:
    """Score both sides of the test pairs with one model."""
    input:
        model=f"{RESULTS}/models/{{system}}/COMPLETE",
        pairs=f"{RESULTS}/data/pairs/COMPLETE",
        vocabulary=lambda wildcards: f"{RESULTS}/vocabularies/{role_of(wildcards)}/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/rankings/{{system}}/COMPLETE",
        record=f"{RESULTS}/rankings/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/rank_pairs/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/rank_pairs/{{system}}.tsv"
    conda:
        conda_file("rank_pairs")
    threads: STAGES["rank_pairs"].threads(STUDY)
    resources:
        **resources_of("rank_pairs"),
    params:
        start=launcher("rank_pairs"),
        key=key("rank_pairs"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
