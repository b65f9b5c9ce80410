"""Students are analysed where the configuration asks for it, and nowhere else."""

from __future__ import annotations


def test_only_the_plans_that_are_named_are_analysed(clone, small):
    assert not any(job.startswith("analyse") for job in clone.jobs())
    small["analyses"] = {"sdp": ["weights"]}
    small["tasks"]["docs-corpus"] = None
    clone.write_config(small)
    assert {job for job in clone.jobs() if job.startswith("analyse")} == {"analyse sdp 50", "analyse sdp 90"}


def test_the_final_weights_are_analysed_beside_the_teacher(clone, small):
    small["analyses"] = {"sdp": ["errors"]}
    small["plans"]["sdp"]["recover"] = {"epochs": 1.0}
    clone.write_config(small)
    folder = "results/small/minilm/docs-library/seed42"
    result = clone.snakemake("--dry-run", "--printshellcmds", f"{folder}/sdp/50/analysis.json")
    text = result.stdout + result.stderr
    assert f"--student {folder}/sdp/50/recovered/config.json {folder}/sdp/50/recovered/model.safetensors " in text
    assert f"--teacher {folder}/teacher/0/config.json " in text and '"analyses":["errors"]' in text
