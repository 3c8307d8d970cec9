"""Answers of every selected model to every evaluation set, and their scores.

REQUIRED INPUTS: models/*, data/evaluation/*, tokenizer.
OUTPUTS: generations/*, scores/*.
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
        conda_file("vllm")
    threads: STUDY.sampling.threads
    resources:
        mem_mb=6000,
        runtime=720,
        gpu=1 if STUDY.sampling.device == "cuda" else 0,
    params:
        stage=stage("generate_responses", "vllm"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("score_responses", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
