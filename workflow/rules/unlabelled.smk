# Texts without labels, which plans that distil read beside a task's rows.
#   in:   the user's files · results/{project}/prepared/{task}/ · results/{project}/bases/{base}/
#   out:  results/{project}/{base}/{task}/tokens/unlabelled.parquet
# As in data.smk the user's files are no inputs: `params.rows` has their contents.


rule collect:
    """Read the texts without labels of a task, as a base's token ids."""
    input:
        tokenizer=paths_in(BASE, ("config.json", *TOKENIZER)),
        train=rules.prepare.output.train,
        evaluation=rules.prepare.output.evaluation,
        lock=LOCK,
    output:
        tokens=f"{TOKENS}/unlabelled.parquet",
    log:
        f"logs/collect/{TOKENS}.log",
    benchmark:
        f"logs/benchmarks/collect/{TOKENS}.tsv"
    wildcard_constraints:
        task=one_of(name for name, task in study.tasks.items() if task.unlabelled),
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=uncompared(spec(kind_specs.collect_spec, "task")),
        rows=lambda w: texts_made_from(study, w.task),
        code=code("collect"),
    shell:
        r"""
        python -m espalier collect \
            --spec {params.spec:q} \
            --tokenizer {input.tokenizer:q} \
            --train {input.train:q} \
            --evaluation {input.evaluation:q} \
            --tokens {output.tokens:q} >{log:q} 2>&1
        """
