# The page that shows a study's results.
#   in:   table.csv, deploy.csv and linear.json, where there are any · scores.json, cost.json, run.json, history.parquet and structure.json of every teacher and student
#   out:  results/{project}/: report.html · figures/*.svg · analyses.json, where something is analysed or a task is text

PAGE_TEMPLATES = ("report.html.j2", "answer.html.j2", "analyses.html.j2", "page.css.j2", "page.js")


rule report:
    """Draw the report: one page with curves, table and provenance."""
    input:
        table=rules.table.output.table,
        histories=[f"{folder}/history.parquet" for folder in layout.runs()],
        records=rules.table.input.records,
        scores=rules.table.input.scores,
        costs=rules.table.input.costs,
        structures=[f"{folder}/structure.json" for folder in layout.compressed()],
        analyses=[f"{folder}/analysis.json" for folder in layout.analysed()],
        tasks=[f"{layout.prepared(task)}/task.json" for task in study.tasks],
        linear=layout.linear(),
        formats=rules.gather.output.table if study.deploy.formats else [],
        lock=LOCK,
    output:
        report=report(f"{RESULTS}/report.html", caption="../report/report.rst", category="Results"),
        quality=f"{RESULTS}/figures/quality.svg",
        size=f"{RESULTS}/figures/size.svg",
        structure=f"{RESULTS}/figures/structure.svg",
        training=f"{RESULTS}/figures/training.svg",
        distance=[f"{RESULTS}/figures/distance.svg"] if study.tasks_of("text") else [],
        anatomy=[f"{RESULTS}/figures/analyses.svg"] if study.is_analysed else [],
        pareto=[f"{RESULTS}/figures/pareto.svg"] if study.deploy.formats else [],
        findings=[f"{RESULTS}/analyses.json"] if study.is_analysed or study.tasks_of("text") else [],
    log:
        f"logs/report/{RESULTS}.log",
    benchmark:
        f"logs/benchmarks/report/{RESULTS}.tsv"
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(reporting_specs.report_spec),
        code=code("report", *(f"file:report/templates/{name}" for name in PAGE_TEMPLATES)),
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
            --analyses {input.analyses:q} \
            --tasks {input.tasks:q} \
            --linear {input.linear:q} \
            --formats {input.formats:q} \
            --report {output.report:q} \
            --quality {output.quality:q} \
            --size {output.size:q} \
            --structure {output.structure:q} \
            --training {output.training:q} \
            --distance {output.distance:q} \
            --anatomy {output.anatomy:q} \
            --findings {output.findings:q} \
            --pareto {output.pareto:q} >{log:q} 2>&1
        """
