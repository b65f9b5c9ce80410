# Models that give vectors, as sentence-transformers opens them.
#   in:   results/{project}/{base}/{task}/seed{seed}/{plan}/{percent}/compact/ or trimmed/
#   out:  modules.json · 1_Pooling/config.json · sentence_bert_config.json in the same folder


rule pool:
    """Say how states of tokens become the vector of a text."""
    input:
        config=rules.export.output.config,
        lock=LOCK,
    output:
        modules_json=f"{STUDENT}/compact/{SENTENCE_FILES[0]}",
        pooling_json=f"{STUDENT}/compact/{SENTENCE_FILES[1]}",
        transformer_json=f"{STUDENT}/compact/{SENTENCE_FILES[2]}",
    log:
        f"logs/pool/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/pool/{STUDENT}.tsv"
    wildcard_constraints:
        task=one_of(study.tasks_of(*VECTORS)),
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(job_specs.export_spec, "task"),
        code=code("pool"),
    shell:
        r"""
        python -m espalier pool \
            --spec {params.spec:q} \
            --config {input.config:q} \
            --modules-json {output.modules_json:q} \
            --pooling-json {output.pooling_json:q} \
            --transformer-json {output.transformer_json:q} >{log:q} 2>&1
        """


use rule pool as pool_trimmed with:
    input:
        config=rules.trim.output.config,
        lock=LOCK,
    output:
        modules_json=f"{STUDENT}/trimmed/{SENTENCE_FILES[0]}",
        pooling_json=f"{STUDENT}/trimmed/{SENTENCE_FILES[1]}",
        transformer_json=f"{STUDENT}/trimmed/{SENTENCE_FILES[2]}",
    log:
        f"logs/pool_trimmed/{STUDENT}.log",
    benchmark:
        f"logs/benchmarks/pool_trimmed/{STUDENT}.tsv"
