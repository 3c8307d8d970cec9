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
        done=f"{RESULTS}/training/{{system}}/COMPLETE",
        record=f"{RESULTS}/training/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/train_run/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train_run/{{system}}.tsv"
    # Before answers and their scores: the last model is what the end waits for.
    priority: 1
    conda:
        conda_file("train_run")
    threads: STAGES["train_run"].threads(STUDY)
    resources:
        **resources_of("train_run"),
    params:
        start=launcher("train_run"),
        key=key("train_run"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule validate_run:
    """Answer dev prompts with every candidate of a run's selection, in one process."""
    input:
        unpack(start_candidate),
        run=f"{RESULTS}/training/{{system}}/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/validation/{{system}}/COMPLETE",
        record=f"{RESULTS}/validation/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/validate_run/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/validate_run/{{system}}.tsv"
    # Before a training that is ready, so that needless checkpoints go first.
    priority: 2
    conda:
        conda_file("validate_run")
    threads: STAGES["validate_run"].threads(STUDY)
    resources:
        **resources_of("validate_run"),
    params:
        start=launcher("validate_run"),
        key=key("validate_run"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule select_checkpoint:
    """Select a run's checkpoint, or the model that it started from, by dev scores."""
    input:
        unpack(start_candidate),
        unpack(validation_of),
        run=f"{RESULTS}/training/{{system}}/COMPLETE",
    output:
        done=f"{RESULTS}/models/{{system}}/COMPLETE",
        record=f"{RESULTS}/models/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/select_checkpoint/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/select_checkpoint/{{system}}.tsv"
    wildcard_constraints:
        **wildcards_of("select_checkpoint"),
    # Before a training that is ready, so that needless checkpoints go first.
    priority: 2
    conda:
        conda_file("select_checkpoint")
    threads: STAGES["select_checkpoint"].threads(STUDY)
    resources:
        **resources_of("select_checkpoint"),
    params:
        start=launcher("select_checkpoint"),
        key=key("select_checkpoint"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
