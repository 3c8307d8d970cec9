"""Training runs (teacher, phase 1, every compared method), their validation and their selected checkpoints.

REQUIRED INPUTS: bases/*, vocabularies/*, data/split, data/evaluation/dev, tokenizer; samples and candidates/* where a run needs them.
OUTPUTS: training/*, validation/*, models/*.
"""


rule train_run:
    """Train one run with DeepSpeed."""
    input:
        unpack(run_inputs),
        split=f"{RESULTS}/data/split/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/training/{{run}}/COMPLETE",
        record=f"{RESULTS}/training/{{run}}.prov.json",
    log:
        f"{RESULTS}/logs/train_run/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_run/{{run}}.tsv"
    conda:
        conda_file("train")
    threads: STUDY.deepspeed.processes * STUDY.deepspeed.threads
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu=STUDY.deepspeed.processes if STUDY.deepspeed.device == "cuda" else 0,
    params:
        stage=stage(
            "train_run",
            "train",
            processes=STUDY.deepspeed.processes,
            modules=method_code,
        ),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule validate_run:
    """Answer dev prompts with every candidate of a run's selection, in one process."""
    input:
        unpack(start_candidate),
        run=f"{RESULTS}/training/{{run}}/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/validation/{{run}}/COMPLETE",
        record=f"{RESULTS}/validation/{{run}}.prov.json",
    log:
        f"{RESULTS}/logs/validate_run/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/validate_run/{{run}}.tsv"
    conda:
        conda_file("vllm")
    threads: STUDY.sampling.threads
    resources:
        mem_mb=6000,
        runtime=480,
        gpu=1 if STUDY.sampling.device == "cuda" else 0,
    params:
        stage=stage("validate_run", "vllm"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule select_checkpoint:
    """Select a run's checkpoint, or the phase 1 that it started from, by dev scores."""
    input:
        unpack(start_candidate),
        unpack(validation_of),
        run=f"{RESULTS}/training/{{run}}/COMPLETE",
    output:
        done=f"{RESULTS}/models/{{run}}/COMPLETE",
        record=f"{RESULTS}/models/{{run}}.prov.json",
    log:
        f"{RESULTS}/logs/select_checkpoint/{{run}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/select_checkpoint/{{run}}.tsv"
    wildcard_constraints:
        run="|".join(re.escape(name) for name in STUDY.systems if name not in EXTERNAL_MODELS),
    conda:
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage(
            "select_checkpoint",
            "light",
            modules=lambda wildcards: ["distill.evaluation.dev_scores"] if validation_of(wildcards) else [],
        ),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
