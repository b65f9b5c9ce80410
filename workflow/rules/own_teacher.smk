# Teachers that somebody has fine-tuned already: checkpoints with their heads, checked and scored, not trained.
#   in:   a folder of the user's, or the hub · results/{project}/bases/{base}/ · {base}/{task}/tokens/
#   out:  results/{project}/teachers/{task}/{base}/ · results/{project}/{base}/{task}/seed{seed}/teacher/0/
# The files of a local folder are no inputs, because another path would then be another job: `params.contents`
# has their digests.

CHECKPOINT = f"{RESULTS}/teachers/{{task}}/{{base}}"


use rule fetch as fetch_teacher with:
    input:
        lock=LOCK,
    output:
        config=f"{CHECKPOINT}/config.json",
        weights=f"{CHECKPOINT}/model.safetensors",
        tokenizer=f"{CHECKPOINT}/tokenizer.json",
        tokenizer_config=f"{CHECKPOINT}/tokenizer_config.json",
        source=f"{CHECKPOINT}/source.json",
    log:
        f"logs/fetch_teacher/{CHECKPOINT}.log",
    wildcard_constraints:
        task=first_of((task, base) for base, task in OWN_TEACHERS if not teacher_specs.is_the_base(study, base, task)),
    params:
        spec=uncompared(spec(teacher_specs.fetch_teacher_spec, "base", "task")),
        contents=lambda w: teacher_made_from(study, w.base, w.task),
        code=lambda w: code_digest(MODULES["fetch"]),


rule admit:
    """Check and score a fine-tuned checkpoint: the teacher."""
    input:
        checkpoint=lambda w: paths_in(layout.checkpoint(w.base, w.task), (*MODEL, "tokenizer.json")),
        base=paths_in(BASE, ("config.json", "tokenizer.json")),
        source=lambda w: f"{layout.checkpoint(w.base, w.task)}/source.json",
        task=rules.prepare.output.task,
        tokens=lambda w: layout.tokens(w.base, w.task),
        lock=LOCK,
    output:
        config=f"{TEACHER_FOLDER}/config.json",
        weights=f"{TEACHER_FOLDER}/model.safetensors",
        history=f"{TEACHER_FOLDER}/history.parquet",
        record=f"{TEACHER_FOLDER}/run.json",
    log:
        f"logs/admit/{TEACHER_FOLDER}.log",
    benchmark:
        f"logs/benchmarks/admit/{TEACHER_FOLDER}.tsv"
    wildcard_constraints:
        base=first_of(OWN_TEACHERS),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("admit"),
    params:
        spec=spec(teacher_specs.admit_spec, "base", "task", "seed"),
        code=code("admit"),
        work=work("admit", spec(teacher_specs.admit_spec, "base", "task", "seed"), code("admit")),
    shell:
        r"""
        python -m espalier admit \
            --spec {params.spec:q} \
            --checkpoint {input.checkpoint:q} \
            --base {input.base:q} \
            --source {input.source:q} \
            --task {input.task:q} \
            --tokens {input.tokens:q} \
            --work {params.work:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --history {output.history:q} \
            --record {output.record:q} >{log:q} 2>&1
        """
