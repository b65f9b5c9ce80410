# What pruning did to students, where the configuration asks for it.
#   in:   the final weights of a student · the teacher · results/{project}/{base}/{task}/tokens/
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/analysis.json


rule analyse:
    """Analyse a student beside its teacher: representations, errors of layers, weights."""
    input:
        student=lambda w: paths_in(layout.final(*w), MODEL),
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        task=rules.prepare.output.task,
        tokens=lambda w: layout.tokens(w.base, w.task)[1],
        lock=LOCK,
    output:
        analysis=f"{STUDENT}/analysis.json",
    log:
        f"logs/analyse/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/analyse/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*ANALYSED)),
        plan=one_of(study.analyses),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("analyse"),
    params:
        spec=spec(job_specs.analyse_spec, "task", "plan"),
        code=code("analyse"),
    shell:
        r"""
        python -m espalier analyse \
            --spec {params.spec:q} \
            --student {input.student:q} \
            --teacher {input.teacher:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --analysis {output.analysis:q} >{log:q} 2>&1
        """
