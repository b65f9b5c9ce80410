# One tidy row a model, and the same nested for DVC.
#   in:   scores.json, cost.json and run.json of every teacher and student
#   out:  results/{project}/: table.csv · metrics.json


rule table:
    """Gather one row a model: quality, size, speed."""
    input:
        scores=[f"{folder}/scores.json" for folder in layout.students()],
        costs=[f"{folder}/cost.json" for folder in layout.students()],
        records=[f"{folder}/run.json" for folder in layout.runs()],
        linear=layout.linear(),
        lock=LOCK,
    output:
        table=report(f"{RESULTS}/table.csv", caption="../report/table.rst", category="Results"),
        metrics=f"{RESULTS}/metrics.json",
    log:
        f"logs/table/{RESULTS}.log",
    benchmark:
        f"logs/benchmarks/table/{RESULTS}.tsv"
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=lambda w: reporting_specs.report_spec(study).model_dump_json(exclude={"max_drop"}),
        code=code("table"),
    shell:
        r"""
        python -m espalier table \
            --spec {params.spec:q} \
            --scores {input.scores:q} \
            --costs {input.costs:q} \
            --records {input.records:q} \
            --linear {input.linear:q} \
            --table {output.table:q} \
            --metrics {output.metrics:q} >{log:q} 2>&1
        """
