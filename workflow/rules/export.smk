# Models to take away.
#   in:   the weights of a teacher, a student or a recovered student · results/{project}/bases/{base}/ · {base}/{task}/tokens/
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/compact/ · decisions.json beside it, for some kinds of task


rule decide:
    """Decide on held-out training rows what an exported model carries besides its weights, such as thresholds of labels."""
    input:
        student=lambda w: paths_in(layout.final(*w), MODEL),
        tokens=lambda w: layout.tokens_read(w.base, w.task, w.plan)[1],
        lock=LOCK,
    output:
        decisions=f"{STUDENT}/decisions.json",
    log:
        f"logs/decide/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/decide/{STUDENT}.tsv"
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("decide"),
    params:
        spec=spec(job_specs.evaluate_spec, "task"),
        code=code("decide"),
    shell:
        r"""
        python -m espalier decide \
            --spec {params.spec:q} \
            --student {input.student:q} \
            --tokens {input.tokens:q} \
            --decisions {output.decisions:q} >{log:q} 2>&1
        """


rule export:
    """Write a model that opens anywhere, as ONNX too, with its tokenizer."""
    input:
        student=lambda w: paths_in(layout.final(*w), MODEL),
        tokenizer=lambda w: paths_in(layout.base(layout.encoder(w.base, w.plan)), TOKENIZER),
        decisions=lambda w: [f"{STUDENT}/decisions.json".format(**w)] if study.tasks[w.task].decides else [],
        lock=LOCK,
    output:
        config=f"{STUDENT}/compact/config.json",
        weights=f"{STUDENT}/compact/model.safetensors",
        code=f"{STUDENT}/compact/modeling_espalier.py",
        onnx=f"{STUDENT}/compact/{ONNX_FILE}",
        tokenizer_json=f"{STUDENT}/compact/tokenizer.json",
        tokenizer_config=f"{STUDENT}/compact/tokenizer_config.json",
        sentences=[],
    log:
        f"logs/export/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/export/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(name for name in study.tasks if name not in study.tasks_of(*VECTORS)),
    conda:
        "../../envs/espalier.yaml"
    resources:
        **resources_of("export"),
    params:
        spec=spec(job_specs.export_spec, "task"),
        code=code("export"),
    shell:
        r"""
        python -m espalier export \
            --spec {params.spec:q} \
            --student {input.student:q} \
            --tokenizer {input.tokenizer:q} \
            --decisions {input.decisions:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --code {output.code:q} \
            --onnx {output.onnx:q} \
            --tokenizer-json {output.tokenizer_json:q} \
            --tokenizer-config {output.tokenizer_config:q} \
            --sentences {output.sentences:q} >{log:q} 2>&1
        """
