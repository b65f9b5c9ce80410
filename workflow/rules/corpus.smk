# Text tasks: rows without labels, packed to one length, and a teacher that can fill in masked tokens.
#   in:   results/{project}/prepared/{task}/ · results/{project}/bases/{base}/
#   out:  results/{project}/{base}/{task}/tokens/ · {base}/{task}/seed{seed}/teacher/0/

CORPUS = one_of(study.tasks_of(*PACKED))


rule pack:
    """Turn a corpus into rows of token ids of one length."""
    input:
        tokenizer=paths_in(BASE, ("config.json", *TOKENIZER)),
        train=rules.prepare.output.train,
        evaluation=rules.prepare.output.evaluation,
        lock=LOCK,
    output:
        train=f"{TOKENS}/train.arrow",
        evaluation=f"{TOKENS}/evaluation.arrow",
    log:
        f"logs/pack/{TOKENS}.log",
    benchmark:
        f"logs/benchmarks/pack/{TOKENS}.tsv"
    wildcard_constraints:
        task=CORPUS,
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(job_specs.pack_spec, "task"),
        code=code("pack"),
    shell:
        r"""
        python -m espalier pack \
            --spec {params.spec:q} \
            --tokenizer {input.tokenizer:q} \
            --train {input.train:q} \
            --evaluation {input.evaluation:q} \
            --packed-train {output.train:q} \
            --packed-evaluation {output.evaluation:q} >{log:q} 2>&1
        """


rule pretrain:
    """Give a base a head for masked-language modelling: the teacher."""
    input:
        base=paths_in(BASE, MODEL),
        task=rules.prepare.output.task,
        tokens=[rules.pack.output.train, rules.pack.output.evaluation],
        lock=LOCK,
    output:
        config=f"{TEACHER_FOLDER}/config.json",
        weights=f"{TEACHER_FOLDER}/model.safetensors",
        history=f"{TEACHER_FOLDER}/history.parquet",
        record=f"{TEACHER_FOLDER}/run.json",
    log:
        f"logs/pretrain/{TEACHER_FOLDER}.log",
    benchmark:
        f"logs/benchmarks/pretrain/{TEACHER_FOLDER}.tsv"
    wildcard_constraints:
        task=CORPUS,
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("pretrain", study.processes),
    params:
        spec=spec(job_specs.pretrain_spec, "task", "seed"),
        code=code("pretrain"),
        work=work("pretrain", spec(job_specs.pretrain_spec, "task", "seed"), code("pretrain")),
    shell:
        r"""
        python -m espalier pretrain \
            --spec {params.spec:q} \
            --base {input.base:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
