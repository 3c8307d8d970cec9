"""Win rates of pairs of systems.

REQUIRED INPUTS: generations/*, the judged evaluation set; the judge's key in the environment where a paid judge is set.
OUTPUTS: verdicts/*.
"""


rule judge_pair:
    """Judge two systems' answers on the same prompts, in both orders."""
    input:
        generations=[
            f"{RESULTS}/generations/{{first}}/COMPLETE",
            f"{RESULTS}/generations/{{second}}/COMPLETE",
        ],
        dataset=f"{RESULTS}/data/evaluation/{STUDY.judge.dataset}/COMPLETE",
    output:
        done=f"{RESULTS}/verdicts/{{first}}-{{second}}/COMPLETE",
        record=f"{RESULTS}/verdicts/{{first}}-{{second}}.prov.json",
    log:
        f"{RESULTS}/logs/judge_pair/{{first}}-{{second}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/judge_pair/{{first}}-{{second}}.tsv"
    wildcard_constraints:
        first="|".join(map(re.escape, STUDY.systems)),
        second="|".join(map(re.escape, STUDY.systems)),
    conda:
        conda_file("judge_pair")
    threads: STAGES["judge_pair"].threads(STUDY)
    resources:
        **resources_of("judge_pair"),
    params:
        start=launcher("judge_pair"),
        key=key("judge_pair"),
        inputs=input_flags,
    shell:
        "{params.start} {params.key} {params.inputs} --output {output.done:q} > {log:q} 2>&1"
