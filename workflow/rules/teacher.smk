"""The teacher's samples and its candidate sets.

REQUIRED INPUTS: models/teacher, data/split, data/evaluation/dev, tokenizer, vocabularies/teacher.
OUTPUTS: samples, candidates/*.
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
    conda:
        conda_file("vllm")
    threads: STUDY.sampling.threads
    resources:
        mem_mb=6000,
        runtime=720,
        gpu=1 if STUDY.sampling.device == "cuda" else 0,
    params:
        stage=stage("sample_teacher", "vllm"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("gather_samples", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


rule adopt_samples:
    """Check and adopt teacher samples from outside."""
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
        conda_file("light")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        stage=stage("adopt_samples", "light"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


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
    conda:
        conda_file("train")
    threads: STUDY.deepspeed.threads
    resources:
        mem_mb=8000,
        runtime=240,
        gpu=1 if STUDY.deepspeed.device == "cuda" else 0,
    params:
        stage=stage("build_candidates", "train"),
        inputs=input_flags,
    shell:
        "{params.stage} {params.inputs} --output {output.done:q} > {log:q} 2>&1"


if STUDY.external.samples:

    ruleorder: adopt_samples > gather_samples

else:

    ruleorder: gather_samples > adopt_samples
