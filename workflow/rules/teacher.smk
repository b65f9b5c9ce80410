# Teachers.
#   in:   results/{project}/bases/{base}/ · {base}/{task}/tokens/
#   out:  results/{project}/{base}/{task}/seed{seed}/teacher/0/


rule finetune:
    """Fine-tune a base on a task: the teacher."""
    input:
        base=paths_in(BASE, MODEL),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.tokens(w.base, w.task),
        lock=LOCK,
    output:
        config=f"{TEACHER_FOLDER}/config.json",
        weights=f"{TEACHER_FOLDER}/model.safetensors",
        history=f"{TEACHER_FOLDER}/history.parquet",
        record=f"{TEACHER_FOLDER}/run.json",
    log:
        f"logs/finetune/{TEACHER_FOLDER}.log",
    benchmark:
        f"logs/benchmarks/finetune/{TEACHER_FOLDER}.tsv"
    wildcard_constraints:
        base=first_of((base, task) for base in study.bases for task in study.tasks if (base, task) not in OWN_TEACHERS),
        task=one_of(study.tasks_of(*LABELLED)),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("finetune", study.processes),
    params:
        spec=spec(job_specs.finetune_spec, "task", "seed"),
        code=code("finetune"),
        work=work("finetune", spec(job_specs.finetune_spec, "task", "seed"), code("finetune")),
    shell:
        r"""
        python -m espalier finetune \
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
