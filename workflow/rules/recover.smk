# Recovery: training at the final masks. It is a branch: the next stage of the path starts from the stage itself.
#   in:   results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/ · the teacher
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/recovered/


rule recover:
    """Train a student on at its final masks."""
    input:
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        start=paths_in(STUDENT, STUDENT_FILES),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.training_tokens(w.base, w.task, w.plan),
        outputs=lambda w: layout.outputs(w.base, w.task, w.seed, w.plan),
        lock=LOCK,
    output:
        config=f"{STUDENT}/recovered/config.json",
        weights=f"{STUDENT}/recovered/model.safetensors",
        history=f"{STUDENT}/recovered/history.parquet",
        record=f"{STUDENT}/recovered/run.json",
    log:
        f"logs/recover/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/recover/{STUDENT}.tsv"
    wildcard_constraints:
        plan=plans_where(lambda plan: plan.rule != "adopt"),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("recover", study.processes),
    params:
        spec=recovery_spec,
        code=method_code("recover"),
        work=work("recover", recovery_spec, method_code("recover")),
    shell:
        r"""
        python -m espalier recover \
            --spec {params.spec:q} \
            --teacher {input.teacher:q} \
            --start {input.start:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --outputs {input.outputs:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
