# Times of a base's sublayers, for plans that aim at a latency or a speed-up.
#   in:   results/{project}/bases/{base}/config.json
#   out:  results/{project}/latency/{base}/

LATENCY = layout.latency_table("{base}", "{batch}", "{length}").removesuffix(".json")


rule latency:
    """Time a base's sublayers on this machine, alone on it."""
    input:
        config=f"{BASE}/config.json",
        lock=LOCK,
    output:
        table=f"{LATENCY}.json",
    log:
        f"logs/latency/{LATENCY}.log",
    benchmark:
        f"logs/benchmarks/latency/{LATENCY}.tsv"
    wildcard_constraints:
        batch=r"\d+",
        length=r"\d+",
    conda:
        "../../envs/espalier.yaml"
    threads: ALL_THREADS
    resources:
        **resources_of("latency"),
    params:
        spec=spec(job_specs.latency_spec, "batch", "length"),
        code=code("latency"),
    shell:
        r"""
        python -m espalier latency \
            --spec {params.spec:q} \
            --config {input.config:q} \
            --table {output.table:q} >{log:q} 2>&1
        """
