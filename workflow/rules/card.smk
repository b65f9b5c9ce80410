# Model cards.
#   in:   scores.json, cost.json, run.json and structure.json of a teacher or student · source.json of its base
#   out:  README.md in its compact/ and trimmed/


rule card:
    """Say what a model is: made from what, its scores and sizes, how to load it."""
    input:
        scores=rules.evaluate.output.scores,
        teacher=f"{TEACHER_FOLDER}/scores.json",
        cost=rules.measure.output.cost,
        records=lambda w: [
            f"{folder}/run.json"
            for folder in dict.fromkeys([layout.student(w.base, w.task, w.seed), layout.student(*w), layout.final(*w)])
        ],
        structure=lambda w: [] if w.plan == TEACHER else f"{layout.student(*w)}/structure.json",
        source=lambda w: f"{layout.base(layout.encoder(w.base, w.plan))}/source.json",
        task=rules.prepare.output.task,
        config=rules.export.output.config,
        deployment=rules.deploy.output.deployment if study.deploy.formats else [],
        trimmed=[],
        lock=LOCK,
    output:
        card=f"{STUDENT}/compact/README.md",
    log:
        f"logs/card/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/card/{STUDENT}.tsv"
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(reporting_specs.card_spec, "base", "task", "plan", "seed", "percent"),
        code=code("card", "file:report/templates/card.md.j2"),
    shell:
        r"""
        python -m espalier card \
            --spec {params.spec:q} \
            --scores {input.scores:q} \
            --teacher {input.teacher:q} \
            --cost {input.cost:q} \
            --records {input.records:q} \
            --structure {input.structure:q} \
            --source {input.source:q} \
            --task {input.task:q} \
            --config {input.config:q} \
            --deployment {input.deployment:q} \
            --trimmed {input.trimmed:q} \
            --card {output.card:q} >{log:q} 2>&1
        """


use rule card as card_trimmed with:
    input:
        scores=rules.evaluate.output.scores,
        teacher=f"{TEACHER_FOLDER}/scores.json",
        cost=rules.measure.output.cost,
        records=rules.card.input.records,
        structure=rules.card.input.structure,
        source=rules.card.input.source,
        task=rules.prepare.output.task,
        config=rules.trim.output.config,
        deployment=rules.deploy_trimmed.output.deployment,
        trimmed=rules.trim.output.report,
        lock=LOCK,
    output:
        card=f"{STUDENT}/trimmed/README.md",
    log:
        f"logs/card_trimmed/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/card_trimmed/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*LABELLED)),
