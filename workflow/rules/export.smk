# Models to take away.
#   in:   the weights of a teacher, a student or a recovered student · results/{project}/bases/{base}/
#   out:  results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/compact/


rule export:
    """Write a model that opens anywhere, as ONNX too, with its tokenizer."""
    input:
        student=lambda w: paths_in(layout.final(*w), MODEL),
        tokenizer=lambda w: paths_in(layout.base(layout.encoder(w.base, w.plan)), TOKENIZER),
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
            --config {output.config:q} \
            --weights {output.weights:q} \
            --code {output.code:q} \
            --onnx {output.onnx:q} \
            --tokenizer-json {output.tokenizer_json:q} \
            --tokenizer-config {output.tokenizer_config:q} \
            --sentences {output.sentences:q} >{log:q} 2>&1
        """
