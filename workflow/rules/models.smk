"""Base models, the check that they fit each other, and models from outside.

REQUIRED INPUTS: tokenizer; plain text for scratch models.
OUTPUTS: bases/*, vocabularies/*, and models/* that the config supplies.
"""

# Only a fresh model is trained here; a given one is converted by one process.
BASE_PROCESSES = STUDY.deepspeed.processes if STUDY.models.teacher.kind == "scratch" else 1


rule make_base:
    """Load, prune or pretrain a base model."""
    input:
        unpack(base_inputs),
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/bases/{{role}}/COMPLETE",
        record=f"{RESULTS}/bases/{{role}}.prov.json",
    log:
        f"{RESULTS}/logs/make_base/{{role}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_base/{{role}}.tsv"
    priority: 1
    conda:
        conda_file("train")
    threads: BASE_PROCESSES * STUDY.deepspeed.threads
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=BASE_PROCESSES if STUDY.deepspeed.device == "cuda" else 0,
    params:
        stage=stage("make_base", "train", processes=BASE_PROCESSES),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule check_models:
    """Check that a model shares vocabulary, EOS and padding with the tokenizer, and a student with the teacher too."""
    input:
        model=model_to_check,
        teacher=teacher_to_match,
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/vocabularies/{{role}}/COMPLETE",
        record=f"{RESULTS}/vocabularies/{{role}}.prov.json",
    log:
        f"{RESULTS}/logs/check_models/{{role}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/check_models/{{role}}.tsv"
    # Before any training that is ready, so that models which do not fit cost none.
    priority: 1
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("check_models", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule adopt_model:
    """Check and adopt a model from outside."""
    input:
        model=lambda wildcards: external_model(wildcards.adopted),
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/models/{{adopted}}/COMPLETE",
        record=f"{RESULTS}/models/{{adopted}}.prov.json",
    log:
        f"{RESULTS}/logs/adopt_model/{{adopted}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adopt_model/{{adopted}}.tsv"
    wildcard_constraints:
        adopted="|".join(EXTERNAL_MODELS) or "(?!)",
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("adopt_model", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
