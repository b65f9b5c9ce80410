# Tasks.
#   in:   the documentation of installed packages, the hub, or the files that config.yaml names
#   out:  results/{project}/prepared/{task}/ · {base}/{task}/tokens/
# prepare has no benchmark: Snakemake's cache between workflows refuses rules that have one. The user's files are no inputs,
# because another path would then be another job: `params.rows` has their contents instead.


rule prepare:
    """Read and check the rows of a task."""
    input:
        lock=LOCK,
    output:
        train=f"{PREPARED}/train.parquet",
        evaluation=f"{PREPARED}/evaluation.parquet",
        task=f"{PREPARED}/task.json",
    log:
        f"logs/prepare/{PREPARED}.log",
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=uncompared(spec(job_specs.prepare_spec, "task")),
        rows=lambda w: rows_made_from(study, w.task),
        code=code("prepare"),
    shell:
        r"""
        python -m espalier prepare \
            --spec {params.spec:q} \
            --train {output.train:q} \
            --evaluation {output.evaluation:q} \
            --task {output.task:q} >{log:q} 2>&1
        """


rule tokenise:
    """Turn the rows of a task into a base's token ids."""
    input:
        tokenizer=paths_in(BASE, ("config.json", *TOKENIZER)),
        train=rules.prepare.output.train,
        evaluation=rules.prepare.output.evaluation,
        lock=LOCK,
    output:
        train=f"{TOKENS}/train.parquet",
        evaluation=f"{TOKENS}/evaluation.parquet",
    log:
        f"logs/tokenise/{TOKENS}.log",
    benchmark:
        f"logs/benchmarks/tokenise/{TOKENS}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*LABELLED)),
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(job_specs.tokenise_spec, "task"),
        code=code("tokenise"),
    shell:
        r"""
        python -m espalier tokenise \
            --spec {params.spec:q} \
            --tokenizer {input.tokenizer:q} \
            --train {input.train:q} \
            --evaluation {input.evaluation:q} \
            --tokens-train {output.train:q} \
            --tokens-evaluation {output.evaluation:q} >{log:q} 2>&1
        """
