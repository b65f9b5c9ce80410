# Quality and cost of teachers and students.
#   in:   results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/compact/ · the teacher's · {base}/{task}/tokens/
#   out:  scores.json · predictions.parquet · cost.json beside compact/


rule evaluate:
    """Score a model on every evaluation set."""
    input:
        model=[rules.export.output.config, rules.export.output.weights],
        task=rules.prepare.output.task,
        tokens=lambda w: layout.tokens_read(w.base, w.task, w.plan)[1],
        lock=LOCK,
    output:
        scores=f"{STUDENT}/scores.json",
        predictions=f"{STUDENT}/predictions.parquet",
    log:
        f"logs/evaluate/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/evaluate/{STUDENT}.tsv"
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("evaluate"),
    params:
        spec=spec(job_specs.evaluate_spec, "task"),
        code=code("evaluate"),
    shell:
        r"""
        python -m espalier evaluate \
            --spec {params.spec:q} \
            --model {input.model:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --scores {output.scores:q} \
            --predictions {output.predictions:q} >{log:q} 2>&1
        """


rule measure:
    """Count a model's weights and time it against its teacher, alone on the machine."""
    input:
        model=[rules.export.output.config, rules.export.output.weights, rules.export.output.onnx],
        dense=paths_in(f"{TEACHER_FOLDER}/compact", (*MODEL, ONNX_FILE)),
        lock=LOCK,
    output:
        cost=f"{STUDENT}/cost.json",
    log:
        f"logs/measure/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/measure/{STUDENT}.tsv"
    conda:
        "../../envs/espalier.yaml"
    threads: ALL_THREADS
    resources:
        **resources_of("measure"),
    params:
        spec=spec(job_specs.measure_spec, "task"),
        code=code("measure"),
    shell:
        r"""
        python -m espalier measure \
            --spec {params.spec:q} \
            --model {input.model:q} \
            --dense {input.dense:q} \
            --cost {output.cost:q} >{log:q} 2>&1
        """
