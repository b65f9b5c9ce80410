# Students: a path of stages, each from the student of the stage before, or with `chain: false` each as the first one; the first
# may start from another plan's.
#   in:   the teacher · the base, the teacher or a student · results/{project}/{base}/{task}/tokens/ ·
#         results/{project}/latency/{base}/ where the path aims at a speed
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/


rule compress:
    """Compress a student to the next target of its path, under its teacher."""
    input:
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        start=lambda w: layout.start(*w),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.training_tokens(w.base, w.task, w.plan),
        latency=lambda w: layout.latency(w.base, w.plan),
        outputs=lambda w: layout.outputs(w.base, w.task, w.seed, w.plan),
        lock=LOCK,
    output:
        config=f"{STUDENT}/config.json",
        weights=f"{STUDENT}/model.safetensors",
        masks=f"{STUDENT}/masks.safetensors",
        structure=f"{STUDENT}/structure.json",
        history=f"{STUDENT}/history.parquet",
        record=f"{STUDENT}/run.json",
    log:
        f"logs/compress/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/compress/{STUDENT}.tsv"
    wildcard_constraints:
        plan=plans_where(lambda plan: plan.rule == "compress"),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("compress", study.processes),
    params:
        spec=student_spec,
        code=method_code("compress"),
        work=work("compress", student_spec, method_code("compress")),
    shell:
        r"""
        python -m espalier compress \
            --spec {params.spec:q} \
            --teacher {input.teacher:q} \
            --start {input.start:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --latency {input.latency:q} \
            --outputs {input.outputs:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --masks {output.masks:q} \
            --structure {output.structure:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
