# Models with smaller embeddings, where the configuration asks for them.
#   in:   results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/compact/ · results/{project}/prepared/{task}/
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/trimmed/ · deploy/trimmed.json beside it


rule trim:
    """Leave out of a model the words that its task does not use, or store its word table as a product."""
    input:
        model=[rules.export.output.config, rules.export.output.weights],
        tokenizer=[rules.export.output.tokenizer_json, rules.export.output.tokenizer_config],
        train=rules.prepare.output.train,
        evaluation=rules.prepare.output.evaluation,
        lock=LOCK,
    output:
        config=f"{STUDENT}/trimmed/config.json",
        weights=f"{STUDENT}/trimmed/model.safetensors",
        code=f"{STUDENT}/trimmed/modeling_espalier.py",
        onnx=f"{STUDENT}/trimmed/{ONNX_FILE}",
        tokenizer_json=f"{STUDENT}/trimmed/tokenizer.json",
        tokenizer_config=f"{STUDENT}/trimmed/tokenizer_config.json",
        report=f"{STUDENT}/trimmed/trim.json",
        sentences=[],
    log:
        f"logs/trim/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/trim/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(name for name in study.tasks if name not in study.tasks_of(*VECTORS)),
    conda:
        "../../envs/espalier.yaml"
    resources:
        **resources_of("trim"),
    params:
        spec=spec(deployment_specs.trim_spec, "task"),
        code=code("trim"),
    shell:
        r"""
        python -m espalier trim \
            --spec {params.spec:q} \
            --model {input.model:q} \
            --tokenizer {input.tokenizer:q} \
            --train {input.train:q} \
            --evaluation {input.evaluation:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --code {output.code:q} \
            --onnx {output.onnx:q} \
            --tokenizer-json {output.tokenizer_json:q} \
            --tokenizer-config {output.tokenizer_config:q} \
            --sentences {output.sentences:q} \
            --report {output.report:q} >{log:q} 2>&1
        """


use rule deploy as deploy_trimmed with:
    input:
        model=paths_in(f"{STUDENT}/trimmed", EXPORTED_FILES),
        dense=lambda w: layout.served(f"{TEACHER_FOLDER}/compact".format(**w)),
        rows=lambda w: layout.rows_read(w.base, w.task, w.plan),
        scores=rules.evaluate.output.scores,
        predictions=rules.evaluate.output.predictions,
        lock=LOCK,
    output:
        deployment=f"{STUDENT}/deploy/trimmed.json",
        converted=paths_in(f"{STUDENT}/trimmed", converted_files(study.deploy.formats)),
    log:
        f"logs/deploy_trimmed/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/deploy_trimmed/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*LABELLED)),
