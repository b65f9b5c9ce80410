# Rivals that others trained: one small encoder for each plan that names another base.
#   in:   the teacher, and the rows as it reads them · results/{project}/bases/{base}/ and {base}/{task}/tokens/ of the other base
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/


rule adopt:
    """Fine-tune a ready-made small encoder on a task, under the teacher."""
    input:
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        teacher_tokens=lambda w: layout.taught_tokens(w.base, w.task, w.plan),
        start=lambda w: layout.start(*w),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.training_tokens(w.base, w.task, w.plan),
        lock=LOCK,
    output:
        config=f"{STUDENT}/config.json",
        weights=f"{STUDENT}/model.safetensors",
        structure=f"{STUDENT}/structure.json",
        history=f"{STUDENT}/history.parquet",
        record=f"{STUDENT}/run.json",
    log:
        f"logs/adopt/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/adopt/{STUDENT}.tsv"
    wildcard_constraints:
        plan=plans_where(lambda plan: plan.rule == "adopt"),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("adopt", study.processes),
    params:
        spec=student_spec,
        code=method_code("adopt"),
        work=work("adopt", student_spec, method_code("adopt")),
    shell:
        r"""
        python -m espalier adopt \
            --spec {params.spec:q} \
            --teacher {input.teacher:q} \
            --teacher-tokens {input.teacher_tokens:q} \
            --start {input.start:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --structure {output.structure:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
