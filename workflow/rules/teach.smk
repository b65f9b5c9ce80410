# Outputs of teachers for all training rows, stored once for the jobs that read them.
#   in:   results/{project}/{base}/{task}/seed{seed}/teacher/0/ · {base}/{task}/tokens/
#   out:  results/{project}/{base}/{task}/seed{seed}/teacher/0/outputs/, notes on files in work/teach/

OUTPUTS = f"{TEACHER_FOLDER}/outputs/{{part}}"


rule teach:
    """Compute what plans read of a teacher's outputs for all training rows."""
    input:
        teacher=paths_in(TEACHER_FOLDER, MODEL),
        tokens=lambda w: layout.taught_tokens(w.base, w.task),
        lock=LOCK,
    output:
        outputs=f"{OUTPUTS}.json",
    log:
        f"logs/teach/{OUTPUTS}.log",
    benchmark:
        f"logs/benchmarks/teach/{OUTPUTS}.tsv"
    wildcard_constraints:
        part=one_of(sorted({reads.name for plans in layout.readers.values() for reads in plans.values()})),
    conda:
        "../../envs/espalier.yaml"
    threads: TRAINING_THREADS
    resources:
        **resources_of("teach"),
    params:
        spec=spec(job_specs.teach_spec, "task", "part"),
        storing=uncompared(spec(job_specs.storing, "task", "part")),
        code=code("teach"),
        work=lambda w: work_folder("teach", RESULTS, *w),
    shell:
        r"""
        python -m espalier teach \
            --spec {params.spec:q} \
            --storing {params.storing:q} \
            --teacher {input.teacher:q} \
            --tokens {input.tokens:q} \
            --work {params.work:q} \
            --outputs {output.outputs:q} >{log:q} 2>&1
        """
