"""Answers of every selected model to every evaluation set, their scores, and its ranking of preference pairs.

REQUIRED INPUTS: models/*, data/evaluation/*, data/pairs, vocabularies/*, tokenizer.
OUTPUTS: generations/*, scores/*, rankings/*.
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
