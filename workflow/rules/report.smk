# Results of the whole study.
#   in:   scores.json, cost.json, run.json, history.parquet and structure.json of every teacher and student
#   out:  results/{project}/: table.csv · metrics.json · report.html · figures/*.svg


rule table:
    """Gather one row a model: quality, size, speed."""
    input:
        scores=[f"{folder}/scores.json" for folder in layout.students()],
        costs=[f"{folder}/cost.json" for folder in layout.students()],
        records=[f"{folder}/run.json" for folder in layout.runs()],
        lock=LOCK,
    output:
        table=report(f"{RESULTS}/table.csv", caption="../report/table.rst", category="Results"),
        metrics=f"{RESULTS}/metrics.json",
    log:
        f"logs/table/{RESULTS}.log",
    benchmark:
        f"benchmarks/table/{RESULTS}.tsv"
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(specs.report_spec),
        code=code("table"),
    shell:
        r"""
        python -m espalier table \
            --spec {params.spec:q} \
            --scores {input.scores:q} \
            --costs {input.costs:q} \
            --records {input.records:q} \
            --table {output.table:q} \
            --metrics {output.metrics:q} >{log:q} 2>&1
        """


rule report:
    """Draw the report: one page with curves, table and provenance."""
    input:
        table=rules.table.output.table,
        histories=[f"{folder}/history.parquet" for folder in layout.runs()],
        records=rules.table.input.records,
        scores=rules.table.input.scores,
        costs=rules.table.input.costs,
        structures=[f"{folder}/structure.json" for folder in layout.compressed()],
        tasks=[f"{layout.prepared(task)}/task.json" for task in study.tasks],
        lock=LOCK,
    output:
        report=report(f"{RESULTS}/report.html", caption="../report/report.rst", category="Results"),
        quality=f"{RESULTS}/figures/quality.svg",
        size=f"{RESULTS}/figures/size.svg",
        structure=f"{RESULTS}/figures/structure.svg",
        training=f"{RESULTS}/figures/training.svg",
    log:
        f"logs/report/{RESULTS}.log",
    benchmark:
        f"benchmarks/report/{RESULTS}.tsv"
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(specs.report_spec),
        code=code("report", "file:templates/report.html.j2"),
    shell:
        r"""
        python -m espalier report \
            --spec {params.spec:q} \
            --table {input.table:q} \
            --histories {input.histories:q} \
            --records {input.records:q} \
            --scores {input.scores:q} \
            --costs {input.costs:q} \
            --structures {input.structures:q} \
            --tasks {input.tasks:q} \
            --report {output.report:q} \
            --quality {output.quality:q} \
            --size {output.size:q} \
            --structure {output.structure:q} \
            --training {output.training:q} >{log:q} 2>&1
        """
