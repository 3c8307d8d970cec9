"""The teacher's samples, its candidate sets and its values along preference pairs.

REQUIRED INPUTS: models/teacher, models/teacher_dpo, data/pairs, data/split, data/evaluation/dev, tokenizer, vocabularies/teacher.
OUTPUTS: shards/*, texts, samples, candidates/*, values.
"""


rule sample_teacher:
    """Sample one shard of responses from the teacher."""
    input:
        teacher=f"{RESULTS}/models/teacher/COMPLETE",
        split=f"{RESULTS}/data/split/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/shards/{{shard}}/COMPLETE",
        record=f"{RESULTS}/shards/{{shard}}.prov.json",
    log:
        f"{RESULTS}/logs/sample_teacher/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/sample_teacher/{{shard}}.tsv"
    # Before answers and their scores: the last model is what the end waits for.
    priority: 1
    conda:
        conda_file("sample_teacher")
    threads: STAGES["sample_teacher"].threads(STUDY)
    resources:
        **resources_of("sample_teacher"),
    params:
        start=launcher("sample_teacher"),
        key=key("sample_teacher"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule gather_samples:
    """Gather the shards into the distillation corpus."""
    input:
        shards=[f"{RESULTS}/shards/{shard}/COMPLETE" for shard in SHARDS],
    output:
        done=f"{RESULTS}/samples/COMPLETE",
        record=f"{RESULTS}/samples.prov.json",
    log:
        f"{RESULTS}/logs/gather_samples.log",
    benchmark:
        f"{RESULTS}/benchmarks/gather_samples.tsv"
    conda:
        conda_file("gather_samples")
    threads: STAGES["gather_samples"].threads(STUDY)
    resources:
        **resources_of("gather_samples"),
    params:
        start=launcher("gather_samples"),
        key=key("gather_samples"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule ask_teacher:
    """Ask a teacher behind a server for its answers, as texts."""
    input:
        split=f"{RESULTS}/data/split/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
    output:
        done=f"{RESULTS}/texts/COMPLETE",
        record=f"{RESULTS}/texts.prov.json",
    log:
        f"{RESULTS}/logs/ask_teacher.log",
    benchmark:
        f"{RESULTS}/benchmarks/ask_teacher.tsv"
    # Before answers and their scores: the last model is what the end waits for.
    priority: 1
    conda:
        conda_file("ask_teacher")
    threads: STAGES["ask_teacher"].threads(STUDY)
    resources:
        **resources_of("ask_teacher"),
    params:
        start=launcher("ask_teacher"),
        key=key("ask_teacher"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule adopt_samples:
    """Check and adopt teacher samples from outside, or the texts of a teacher that was asked."""
    input:
        samples=external_samples,
        split=f"{RESULTS}/data/split/COMPLETE",
        dev=f"{RESULTS}/data/evaluation/dev/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/samples/COMPLETE",
        record=f"{RESULTS}/samples.prov.json",
    log:
        f"{RESULTS}/logs/adopt_samples.log",
    benchmark:
        f"{RESULTS}/benchmarks/adopt_samples.tsv"
    conda:
        conda_file("adopt_samples")
    threads: STAGES["adopt_samples"].threads(STUDY)
    resources:
        **resources_of("adopt_samples"),
    params:
        start=launcher("adopt_samples"),
        key=key("adopt_samples"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule build_candidates:
    """Compute the teacher's top-p sets along one shard of its samples."""
    input:
        teacher=f"{RESULTS}/models/teacher/COMPLETE",
        samples=f"{RESULTS}/samples/COMPLETE",
        vocabulary=f"{RESULTS}/vocabularies/teacher/COMPLETE",
    output:
        done=f"{RESULTS}/candidates/{{shard}}/COMPLETE",
        record=f"{RESULTS}/candidates/{{shard}}.prov.json",
    log:
        f"{RESULTS}/logs/build_candidates/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_candidates/{{shard}}.tsv"
    # Before answers and their scores: the last model is what the end waits for.
    priority: 1
    conda:
        conda_file("build_candidates")
    threads: STAGES["build_candidates"].threads(STUDY)
    resources:
        **resources_of("build_candidates"),
    params:
        start=launcher("build_candidates"),
        key=key("build_candidates"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule build_values:
    """Compute the preference teacher's soft values along the training pairs."""
    input:
        teacher=f"{RESULTS}/models/teacher_dpo/COMPLETE",
        pairs=f"{RESULTS}/data/pairs/COMPLETE",
        vocabulary=f"{RESULTS}/vocabularies/teacher/COMPLETE",
        tokenizer=f"{RESULTS}/tokenizer/COMPLETE",
    output:
        done=f"{RESULTS}/values/COMPLETE",
        record=f"{RESULTS}/values.prov.json",
    log:
        f"{RESULTS}/logs/build_values.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_values.tsv"
    # Before answers and their scores: the last model is what the end waits for.
    priority: 1
    conda:
        conda_file("build_values")
    threads: STAGES["build_values"].threads(STUDY)
    resources:
        **resources_of("build_values"),
    params:
        start=launcher("build_values"),
        key=key("build_values"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


if STUDY.adopts_samples:

    ruleorder: adopt_samples > gather_samples

else:

    ruleorder: gather_samples > adopt_samples
