"""Base models, the check that they fit each other, and models from outside.

REQUIRED INPUTS: tokenizer; plain text for scratch models.
OUTPUTS: bases/*, vocabularies/*, and models/* that the config supplies.
"""


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
    priority: 2
    conda:
        conda_file("make_base")
    threads: STAGES["make_base"].threads(STUDY)
    resources:
        **resources_of("make_base"),
    params:
        start=launcher("make_base"),
        key=key("make_base"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
    priority: 2
    conda:
        conda_file("check_models")
    threads: STAGES["check_models"].threads(STUDY)
    resources:
        **resources_of("check_models"),
    params:
        start=launcher("check_models"),
        key=key("check_models"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule adopt_model:
    """Check and adopt a model from outside, or a base that is evaluated as it is."""
    input:
        model=adopted_model,
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/models/{{system}}/COMPLETE",
        record=f"{RESULTS}/models/{{system}}.prov.json",
    log:
        f"{RESULTS}/logs/adopt_model/{{system}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/adopt_model/{{system}}.tsv"
    wildcard_constraints:
        **wildcards_of("adopt_model"),
    conda:
        conda_file("adopt_model")
    threads: STAGES["adopt_model"].threads(STUDY)
    resources:
        **resources_of("adopt_model"),
    params:
        start=launcher("adopt_model"),
        key=key("adopt_model"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
