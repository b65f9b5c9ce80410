# Formats in which models are served, and what each of them is worth.
#   in:   compact/ of a teacher or student, and of the dense model · results/{project}/prepared/{task}/ · scores.json · predictions.parquet
#   out:  onnx/ and openvino/ in compact/ · deploy/compact.json beside it · results/{project}/deploy.csv


rule deploy:
    """Write a model in every format; score, time and compare each one, alone on the machine."""
    input:
        model=paths_in(f"{STUDENT}/compact", EXPORTED_FILES),
        dense=lambda w: [] if w.plan == TEACHER else layout.served(f"{TEACHER_FOLDER}/compact".format(**w)),
        rows=lambda w: layout.rows_read(w.base, w.task, w.plan),
        scores=rules.evaluate.output.scores,
        predictions=rules.evaluate.output.predictions,
        lock=LOCK,
    output:
        deployment=f"{STUDENT}/deploy/compact.json",
        converted=paths_in(f"{STUDENT}/compact", converted_files(study.deploy.formats)),
    log:
        f"logs/deploy/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/deploy/{STUDENT}.tsv"
    conda:
        "../../envs/espalier.yaml"
    threads: ALL_THREADS
    resources:
        **resources_of("deploy"),
    params:
        spec=spec(deployment_specs.deploy_spec, "task"),
        code=code("deploy"),
    shell:
        r"""
        python -m espalier deploy \
            --spec {params.spec:q} \
            --model {input.model:q} \
            --dense {input.dense:q} \
            --rows {input.rows:q} \
            --scores {input.scores:q} \
            --predictions {input.predictions:q} \
            --deployment {output.deployment:q} \
            --converted {output.converted:q} >{log:q} 2>&1
        """


rule gather:
    """Gather one row for each model and format: score, size, speed."""
    input:
        deployments=layout.deployed(),
        costs=[f"{folder}/cost.json" for folder in layout.students()],
        linear=layout.linear(),
        lock=LOCK,
    output:
        table=report(f"{RESULTS}/deploy.csv", caption="../report/deploy.rst", category="Results"),
    log:
        f"logs/gather/{RESULTS}.log",
    benchmark:
        f"logs/benchmarks/gather/{RESULTS}.tsv"
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(deployment_specs.gather_spec),
        code=code("gather"),
    shell:
        r"""
        python -m espalier gather \
            --spec {params.spec:q} \
            --deployments {input.deployments:q} \
            --costs {input.costs:q} \
            --linear {input.linear:q} \
            --table {output.table:q} >{log:q} 2>&1
        """
