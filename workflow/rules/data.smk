"""Sources, tokenizer, split, evaluation sets and preference pairs.

REQUIRED INPUTS: the local files that the config names, if any.
OUTPUTS: data/sources/*, tokenizer, data/split, data/evaluation/*, data/pairs.
"""


rule gather_source:
    """Bring one source of rows to the common schema."""
    input:
        unpack(local_file),
    output:
        done=f"{RESULTS}/data/sources/{{source}}/COMPLETE",
        record=f"{RESULTS}/data/sources/{{source}}.prov.json",
    log:
        f"{RESULTS}/logs/gather_source/{{source}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_source/{{source}}.tsv"
    conda:
        conda_file("gather_source")
    threads: STAGES["gather_source"].threads(STUDY)
    resources:
        **resources_of("gather_source"),
    params:
        start=launcher("gather_source"),
        key=key("gather_source"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule make_tokenizer:
    """Train the scratch models' tokenizer, or take the teacher's."""
    input:
        unpack(tokenizer_texts),
    output:
        done=f"{RESULTS}/tokenizer/COMPLETE",
        record=f"{RESULTS}/tokenizer.prov.json",
    log:
        f"{RESULTS}/logs/make_tokenizer.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_tokenizer.tsv"
    conda:
        conda_file("make_tokenizer")
    threads: STAGES["make_tokenizer"].threads(STUDY)
    resources:
        **resources_of("make_tokenizer"),
    params:
        start=launcher("make_tokenizer"),
        key=key("make_tokenizer"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule split_data:
    """Filter the instructions and cut train, dev and test."""
    input:
        instructions=f"{RESULTS}/data/sources/instructions/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
        held_out=held_out_sources,
    output:
        done=f"{RESULTS}/data/split/COMPLETE",
        record=f"{RESULTS}/data/split.prov.json",
    log:
        f"{RESULTS}/logs/split_data.log",
    benchmark:
        f"{RESULTS}/benchmarks/split_data.tsv"
    conda:
        conda_file("split_data")
    threads: STAGES["split_data"].threads(STUDY)
    resources:
        **resources_of("split_data"),
    params:
        start=launcher("split_data"),
        key=key("split_data"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule prepare_evaluation:
    """Filter one evaluation set and check that train and dev share no prompt with it."""
    input:
        leave_out=left_out_of_dev,
        source=lambda wildcards: evaluation_source(wildcards.dataset),
        split=f"{RESULTS}/data/split/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
        dev=dev_to_compare,
    output:
        done=f"{RESULTS}/data/evaluation/{{dataset}}/COMPLETE",
        record=f"{RESULTS}/data/evaluation/{{dataset}}.prov.json",
    log:
        f"{RESULTS}/logs/prepare_evaluation/{{dataset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/prepare_evaluation/{{dataset}}.tsv"
    conda:
        conda_file("prepare_evaluation")
    threads: STAGES["prepare_evaluation"].threads(STUDY)
    resources:
        **resources_of("prepare_evaluation"),
    params:
        start=launcher("prepare_evaluation"),
        key=key("prepare_evaluation"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule make_pairs:
    """Draw or read the preference pairs."""
    input:
        others=prompts_outside_pairs,
        file=pair_files,
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/data/pairs/COMPLETE",
        record=f"{RESULTS}/data/pairs.prov.json",
    log:
        f"{RESULTS}/logs/make_pairs.log",
    benchmark:
        f"{RESULTS}/benchmarks/make_pairs.tsv"
    conda:
        conda_file("make_pairs")
    threads: STAGES["make_pairs"].threads(STUDY)
    resources:
        **resources_of("make_pairs"),
    params:
        start=launcher("make_pairs"),
        key=key("make_pairs"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
