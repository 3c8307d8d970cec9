"""Sources, tokenizer, split and evaluation sets.

REQUIRED INPUTS: the local files that the config names, if any.
OUTPUTS: data/sources/*, tokenizer, data/split, data/evaluation/*.
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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("gather_source", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("make_tokenizer", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("split_data", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("prepare_evaluation", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
