# The rival that needs no encoder.
#   in:   results/{project}/prepared/{task}/
#   out:  results/{project}/prepared/{task}/linear.json


rule linear:
    """Fit a linear model to a task's rows, score it and time it, alone on the machine."""
    input:
        train=rules.prepare.output.train,
        evaluation=rules.prepare.output.evaluation,
        task=rules.prepare.output.task,
        lock=LOCK,
    output:
        linear=f"{PREPARED}/linear.json",
    log:
        f"logs/linear/{PREPARED}.log",
    benchmark:
        f"logs/benchmarks/linear/{PREPARED}.tsv"
    wildcard_constraints:
        task=one_of(study.linear_tasks),
    conda:
        "../../envs/espalier.yaml"
    threads: ALL_THREADS
    params:
        spec=spec(job_specs.linear_spec),
        code=code("linear"),
    shell:
        r"""
        python -m espalier linear \
            --spec {params.spec:q} \
            --train {input.train:q} \
            --evaluation {input.evaluation:q} \
            --task {input.task:q} \
            --linear {output.linear:q} >{log:q} 2>&1
        """
