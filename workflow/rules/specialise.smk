# Task-agnostic students, fine-tuned: one for each target of a plan that works on a text task.
#   in:   the teacher · a student of a text task · results/{project}/{base}/{task}/tokens/
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/


rule specialise:
    """Fine-tune a task-agnostic student on a task."""
    input:
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        start=lambda w: layout.start(*w),
        kept=lambda w: layout.kept(*w),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.training_tokens(w.base, w.task, w.plan),
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
        f"logs/specialise/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/specialise/{STUDENT}.tsv"
    wildcard_constraints:
        plan=plans_where(lambda plan: plan.rule == "specialise"),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("specialise", study.processes),
    params:
        spec=student_spec,
        code=method_code("specialise"),
        work=work("specialise", student_spec, method_code("specialise")),
    shell:
        r"""
        python -m espalier specialise \
            --spec {params.spec:q} \
            --teacher {input.teacher:q} \
            --start {input.start:q} \
            --kept {input.kept:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --outputs {input.outputs:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --masks {output.masks:q} \
            --structure {output.structure:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
